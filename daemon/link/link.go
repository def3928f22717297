// Package link holds what a link to another container on the default bridge is to the
// one that has it: names, and environment variables that tell of the other's ports and
// environment. It is pure; its forms are dockerd's.
package link

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/docker/go-connections/nat"
)

// Link is one link as a container's record keeps it.
type Link struct {
	ID    string // of the other container
	Name  string // its name when the link was made
	Alias string // what it is called here
}

// Parse reads "name", "name:alias" or "/name:/other/alias", which is what inspect shows.
func Parse(s string) (name, alias string, err error) {
	if s == "" {
		return "", "", errors.New("empty string specified for links")
	}
	name, alias, given := strings.Cut(s, ":")
	switch {
	case strings.Contains(alias, ":"):
		return "", "", fmt.Errorf("bad format for links: %s", s)
	case !given:
		return s, s, nil
	case strings.HasPrefix(name, "/"):
		name, alias = name[1:], path.Base(alias)
	}
	if name == "" || alias == "" || strings.Contains(alias, "/") || alias == "." || alias == ".." {
		return "", "", fmt.Errorf("bad format for links: %s", s)
	}
	return name, alias, nil
}

// Env is what the container holder is told of another by a link: address is that one's,
// env its environment, exposed its ports.
func Env(holder, alias, address string, env []string, exposed nat.PortSet) []string {
	prefix := strings.ReplaceAll(strings.ToUpper(alias), "-", "_")
	out := portEnv(prefix, address, sorted(exposed))
	out = append(out, prefix+"_NAME="+path.Join("/", holder, alias))
	for _, e := range env {
		if name, _, set := strings.Cut(e, "="); set && name != "HOME" && name != "PATH" {
			out = append(out, prefix+"_ENV_"+e)
		}
	}
	return out
}

// sorted puts tcp before everything else, then goes by protocol and number.
func sorted(set nat.PortSet) []nat.Port {
	ports := make([]nat.Port, 0, len(set))
	for p := range set {
		ports = append(ports, p)
	}
	rank := func(p nat.Port) string {
		if p.Proto() == "tcp" {
			return ""
		}
		return p.Proto()
	}
	slices.SortFunc(ports, func(a, b nat.Port) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.Int(), b.Int()))
	})
	return ports
}

func portEnv(prefix, address string, ports []nat.Port) (out []string) {
	url := func(p nat.Port) string { return p.Proto() + "://" + address + ":" + p.Port() }
	key := func(p nat.Port) string {
		return prefix + "_PORT_" + p.Port() + "_" + strings.ToUpper(p.Proto())
	}
	for i := 0; i < len(ports); {
		run := 1 // of numbers in a row, of one protocol
		for i+run < len(ports) && ports[i+run].Proto() == ports[i].Proto() && ports[i+run].Int() == ports[i].Int()+run {
			run++
		}
		first, last := ports[i], ports[i+run-1]
		if i == 0 {
			out = append(out, prefix+"_PORT="+url(first))
		}
		for _, p := range ports[i : i+run] {
			k := key(p)
			out = append(out, k+"="+url(p), k+"_ADDR="+address, k+"_PORT="+p.Port(), k+"_PROTO="+p.Proto())
		}
		if run > 1 {
			k := key(first)
			out = append(out, k+"_START="+url(first), k+"_PORT_START="+first.Port(), k+"_END="+url(last), k+"_PORT_END="+last.Port())
		}
		i += run
	}
	return out
}
