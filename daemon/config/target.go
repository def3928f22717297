package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/go-units"
)

// value makes a target of three functions. The first flag given replaces what
// stood before (a default), the next ones add to it where that makes sense.
type value struct {
	kind  string
	set   func(string, bool) error // text of a flag, and whether it is the first
	load  func([]byte) error       // JSON of the file
	show  func() string
	given bool
}

func (v *value) Set(s string) error {
	first := !v.given
	v.given = true
	return v.set(s, first)
}
func (v *value) Type() string                 { return v.kind }
func (v *value) UnmarshalJSON(b []byte) error { return v.load(b) }
func (v *value) String() string {
	if v == nil || v.show == nil {
		return ""
	}
	return v.show()
}

// IsBoolFlag lets a boolean flag stand without a value.
func (v *value) IsBoolFlag() bool { return v.kind == "bool" }

func scalar[T any](kind string, p *T, parse func(string) (T, error)) *value {
	return &value{
		kind: kind,
		set: func(s string, _ bool) error {
			x, err := parse(s)
			if err == nil {
				*p = x
			}
			return err
		},
		load: func(b []byte) error { return json.Unmarshal(b, p) },
		show: func() string { return fmt.Sprint(*p) },
	}
}

func text(p *string) *value {
	return scalar("string", p, func(s string) (string, error) { return s, nil })
}
func boolean(p *bool) *value    { return scalar("bool", p, strconv.ParseBool) }
func integer(p *int) *value     { return scalar("int", p, strconv.Atoi) }
func addr(p *netip.Addr) *value { return scalar("ip", p, netip.ParseAddr) }

func tristate(p *Bool) *value {
	v := boolean(&p.Value)
	set, load := v.set, v.load
	v.set = func(s string, first bool) error { p.Set = true; return set(s, first) }
	v.load = func(b []byte) error { p.Set = true; return load(b) }
	return v
}

// size takes bytes or a number with a unit, in the file as on the command line.
func size(p *int64) *value {
	v := scalar("bytes", p, units.RAMInBytes)
	v.load = func(b []byte) error {
		var s string
		if json.Unmarshal(b, &s) == nil {
			return v.set(s, true)
		}
		return json.Unmarshal(b, p)
	}
	return v
}

// list collects strings; each, when given, takes them one by one instead.
func list(p *[]string, each func(string) error) *value {
	add := func(s string) error {
		*p = append(*p, s)
		if each != nil {
			return each(s)
		}
		return nil
	}
	return &value{
		kind: "list",
		set: func(s string, first bool) error {
			if first {
				*p = nil
			}
			return add(s)
		},
		load: func(b []byte) error {
			var in []string
			if err := json.Unmarshal(b, &in); err != nil {
				return err
			}
			*p = nil
			for _, s := range in {
				if err := add(s); err != nil {
					return err
				}
			}
			return nil
		},
		show: func() string { return "[" + strings.Join(*p, ",") + "]" },
	}
}

func addrs(p *[]netip.Addr) *value {
	var raw []string
	return list(&raw, func(s string) error {
		a, err := netip.ParseAddr(s)
		if err == nil {
			*p = append(*p, a)
		}
		return err
	})
}

// keyed collects name=value flags into a map.
func keyed[V any](kind string, p *map[string]V, parse func(string) (V, error)) *value {
	return &value{
		kind: kind,
		set: func(s string, _ bool) error {
			k, v, ok := strings.Cut(s, "=")
			if !ok || k == "" {
				return fmt.Errorf("invalid value %q: want name=value", s)
			}
			x, err := parse(v)
			if err == nil {
				(*p)[k] = x
			}
			return err
		},
		load: func(b []byte) error {
			in := map[string]V{}
			if err := json.Unmarshal(b, &in); err != nil {
				return err
			}
			maps.Copy(*p, in)
			return nil
		},
		show: func() string { return strings.Join(slices.Sorted(maps.Keys(*p)), ",") },
	}
}

func pairs(p *map[string]string) *value {
	return keyed("map", p, func(s string) (string, error) { return s, nil })
}

func runtimes(p *map[string]Runtime) *value {
	return keyed("runtime", p, func(s string) (Runtime, error) { return Runtime{Path: s}, nil })
}

func ulimits(p *map[string]*containertypes.Ulimit) *value {
	v := keyed("ulimit", p, func(string) (*containertypes.Ulimit, error) { return nil, nil })
	v.set = func(s string, _ bool) error {
		u, err := units.ParseUlimit(s)
		if err == nil {
			(*p)[u.Name] = u
		}
		return err
	}
	return v
}

func features(p *map[string]bool) *value {
	v := keyed("feature", p, strconv.ParseBool)
	set := v.set
	v.set = func(s string, first bool) error {
		if !strings.Contains(s, "=") {
			s += "=true"
		}
		return set(s, first)
	}
	return v
}

func pools(p *[]AddressPool) *value {
	return &value{
		kind: "pool",
		set: func(s string, _ bool) error {
			pool, err := parsePool(s)
			if err == nil {
				*p = append(*p, pool)
			}
			return err
		},
		load: func(b []byte) error { return json.Unmarshal(b, p) },
		show: func() string { return fmt.Sprint(*p) },
	}
}

func parsePool(s string) (pool AddressPool, err error) {
	for _, field := range strings.Split(s, ",") {
		k, v, _ := strings.Cut(field, "=")
		switch k {
		case "base":
			if pool.Base, err = netip.ParsePrefix(v); err != nil {
				return pool, fmt.Errorf("invalid base pool %q: %w", v, err)
			}
		case "size":
			if pool.Size, err = strconv.Atoi(v); err != nil {
				return pool, fmt.Errorf("invalid size value %q: %w", v, err)
			}
		default:
			return pool, fmt.Errorf("unexpected key '%s' in '%s'", k, field)
		}
	}
	return pool, nil
}
