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
	"f": {"user=UID", "pid", "ppid", "c", "stime", "tname", "time", "cmd"},
	"F": {"user=UID", "pid", "ppid", "c", "sz", "rss", "psr", "stime", "tname", "time", "cmd"},
	"u": {"user", "pid", "pcpu", "pmem", "vsz", "rss", "tname", "stat", "sdate", "btime", "args"},
	"l": {"f", "s", "uid", "pid", "ppid", "c", "opri", "ni", "addr", "sz", "waits", "tname", "time", "ucmd"},
	"j": {"pid", "pgid", "sid", "tname", "time", "ucmd"},
	"":  {"pid", "tname", "time", "ucmd"},
	"x": {"pid", "tname", "stat", "btime", "args"}, // BSD's
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

// parse reads ps's options: -letters, BSD letters without a dash, and -o, o or --format=
// with a list, attached or apart.
func parse(args []string) ([]field, error) {
	var lists []string
	layout := ""
	for i := 0; i < len(args); i++ {
		letters, dashed := strings.CutPrefix(args[i], "-")
		if long, ok := strings.CutPrefix(letters, "-"); dashed && ok {
			list, ok := strings.CutPrefix(long, "format=")
			if !ok {
				return nil, fmt.Errorf("ps: error: unknown gnu long option")
			}
			lists = append(lists, list)
			continue
		}
		letters, list, formatted := strings.Cut(letters, "o")
		if formatted && list == "" {
			if i++; i == len(args) {
				return nil, fmt.Errorf("ps: error: format specification must follow -o")
			}
			list = args[i]
		}
		if formatted {
			lists = append(lists, list)
		}
		for _, c := range letters {
			next, err := layoutOf(c, dashed)
			if err != nil {
				return nil, err
			}
			if next != "" && (layout == "" || next != "x") {
				layout = next
			}
		}
	}
	if lists == nil {
		lists = layouts[layout]
	}
	return choose(lists)
}

// layoutOf is the layout that an option letter asks for, "" when it chooses processes
// or changes nothing here.
func layoutOf(c rune, dashed bool) (string, error) {
	switch {
	case c == 'f' || c == 'F' || c == 'l' || c == 'j':
		return string(c), nil
	case c == 'u' && !dashed:
		return "u", nil
	case (c == 'a' || c == 'x') && !dashed:
		return "x", nil
	case strings.ContainsRune("eAadNHwhTLMyrg", c):
		return "", nil
	}
	return "", fmt.Errorf("ps: error: unsupported option %q", string(c))
}

// choose turns lists like "pid,user=WHO" into fields.
func choose(lists []string) ([]field, error) {
	var out []field
	for _, list := range lists {
		for name := range strings.SplitSeq(list, ",") {
			key, title, titled := strings.Cut(name, "=")
			key, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(key)), ":") // a width is for a terminal
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
