package intelrdt

import (
	"fmt"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Validate checks what can be checked without a tree. Class: InvalidArgument.
func Validate(r *specs.LinuxIntelRdt) error {
	bad := func(format string, args ...any) error {
		return fmt.Errorf("linux.intelRdt."+format+": %w", append(args, errdefs.ErrInvalidArgument)...)
	}
	if c := r.ClosID; c == "." || c == ".." || len(c) > 1 && strings.Contains(c, "/") || strings.ContainsAny(c, "\n\x00") {
		return bad("closID: %q is not possible", c)
	}
	if m := r.MemBwSchema; m != "" && !strings.HasPrefix(m, "MB:") {
		return bad("memBwSchema: %q does not start with MB:", m)
	}
	for _, l := range schemata(r) {
		if strings.ContainsAny(l, "\n\x00") || !strings.Contains(l, ":") {
			return bad("schemata: %q is not a line of schemata", l)
		}
	}
	return nil
}

// holds says whether a schemata file has all values of a line. Lines are padded and values
// written in full there: "    L3:0=007f0;1=0001f".
func holds(file, line string) bool {
	name, want := parse(line)
	for l := range strings.Lines(file) {
		n, have := parse(l)
		if n != name {
			continue
		}
		for id, v := range want {
			if have[id] != v {
				return false
			}
		}
		return true
	}
	return false
}

func parse(line string) (name string, values map[string]string) {
	name, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
	values = map[string]string{}
	for part := range strings.SplitSeq(rest, ";") {
		id, v, _ := strings.Cut(part, "=")
		values[number(id)] = number(v)
	}
	return strings.TrimSpace(name), values
}

// number is one form of a number, hexadecimal or decimal.
func number(s string) string {
	s = strings.ToLower(strings.TrimSpace(s))
	if t := strings.TrimLeft(s, "0"); t != "" {
		return t
	}
	return "0"
}
