package top

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
)

// Layouts of ps that are asked for by a letter.
var layouts = map[string][]string{
	"f": {"user=UID", "pid", "ppid", "c", "stime", "tty", "time", "cmd"},
	"u": {"user", "pid", "pcpu", "pmem", "vsz", "rss", "tty", "stat", "start", "btime", "args"},
	"l": {"f", "s", "uid", "pid", "ppid", "c", "pri", "ni", "vsz", "tty", "time", "ucmd"},
	"j": {"pid", "pgid", "sid", "tty", "time", "ucmd"},
	"":  {"pid", "tty", "time", "ucmd"},
	"x": {"pid", "tty", "stat", "btime", "args"}, // BSD's
}

// field is a chosen column with its title.
type field struct {
	column
	title string
}

var pidTitle = regexp.MustCompile(`\s+([^\s]*)=\s*(PID[^\s]*)`)

// Table shows the processes in the layout that args, ps's options, ask for; "" is -ef.
// Options that choose processes are of no effect.
func Table(args string, processes []Process, h Host) (containertypes.TopResponse, error) {
	if args == "" {
		args = "-ef"
	}
	for _, m := range pidTitle.FindAllStringSubmatch(args, -1) {
		if m[1] != "pid" {
			return containertypes.TopResponse{}, fmt.Errorf(`specifying "%s=%s" is not allowed`, m[1], m[2])
		}
	}
	fields, err := parse(strings.Fields(args))
	if err != nil {
		return containertypes.TopResponse{}, err
	}
	t := containertypes.TopResponse{Processes: [][]string{}}
	for _, f := range fields {
		t.Titles = append(t.Titles, f.title)
	}
	if !slices.Contains(t.Titles, "PID") {
		return containertypes.TopResponse{}, fmt.Errorf("Couldn't find PID field in ps output") //nolint:staticcheck // Docker's words
	}
	for i := range processes {
		var row []string
		for _, f := range fields {
			row = append(row, f.show(&processes[i], &h))
		}
		t.Processes = append(t.Processes, row)
	}
	return t, nil
}

// parse reads ps's options: -letters, BSD letters without a dash, and -o, -O or o with
// a list, apart or attached.
func parse(args []string) ([]field, error) {
	var list []string
	layout := ""
	for i := 0; i < len(args); i++ {
		a := args[i]
		letters, dashed := strings.CutPrefix(a, "-")
		if long, ok := strings.CutPrefix(letters, "-"); dashed && ok {
			f, isFormat := strings.CutPrefix(long, "format=")
			if !isFormat {
				return nil, fmt.Errorf("ps: error: unknown gnu long option")
			}
			list = append(list, f)
			continue
		}
		at := strings.IndexByte(letters, 'o')
		flags := letters
		if at >= 0 {
			flags = letters[:at]
			value := letters[at+1:]
			if value == "" {
				if i++; i == len(args) {
					return nil, fmt.Errorf("ps: error: format specification must follow -o")
				}
				value = args[i]
			}
			list = append(list, value)
		}
		l, err := layoutOf(flags, dashed)
		if err != nil {
			return nil, err
		}
		if l != "" {
			layout = l
		}
	}
	if list == nil {
		list = layouts[layout]
	}
	return choose(list)
}

func layoutOf(flags string, dashed bool) (layout string, err error) {
	for _, c := range flags {
		switch {
		case strings.ContainsRune("fuljFUx", c) && (dashed || c != 'x'):
			switch c {
			case 'F':
				c = 'f'
			case 'U', 'x':
				continue
			}
			if _, ok := layouts[string(c)]; ok && !(dashed && c == 'u') {
				layout = string(c)
			}
		case !dashed && (c == 'a' || c == 'x'):
			if layout == "" {
				layout = "x"
			}
		case strings.ContainsRune("eAadHwhTLMyNr", c):
		default:
			return "", fmt.Errorf("ps: error: unsupported option %q", string(c))
		}
	}
	return layout, nil
}

// choose turns lists like "pid,user=WHO" into fields.
func choose(lists []string) ([]field, error) {
	var out []field
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ",") {
			key, title, titled := strings.Cut(name, "=")
			key = strings.ToLower(strings.TrimSpace(key))
			if a, ok := aliases[key]; ok {
				key = a
			}
			c, ok := columns[key]
			if !ok {
				return nil, fmt.Errorf("ps: error: unknown user-defined format specifier %q", name)
			}
			f := field{column: c, title: c.title}
			if titled && title != "" {
				f.title = strings.TrimSpace(title)
			}
			out = append(out, f)
		}
	}
	return out, nil
}
