package metadata_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// The model is what the collector's world looks like to someone who knows nothing of how
// it is built: records are names with states, and what is held is found by going round
// until nothing changes. Since collections run at any time, and a process may die in the
// middle of a call, a name may have one of several states.

// state is a record, or that there is none.
type state struct {
	Gone     bool              `json:",omitempty"`
	Labels   map[string]string `json:",omitempty"`
	Active   bool              `json:",omitempty"` // of a snapshot
	Parent   string            `json:",omitempty"` // of a snapshot: its name
	Target   string            `json:",omitempty"` // of an image: its content
	Snapshot string            `json:",omitempty"` // of a container
	Held     map[string]bool   `json:",omitempty"` // of a lease: "KIND KEY"
}

var gone = state{Gone: true}

func (s state) String() string {
	raw, _ := json.Marshal(s)
	return string(raw)
}

func (s state) with(add, remove string) state {
	s.Held = maps.Clone(s.Held)
	if s.Held == nil {
		s.Held = map[string]bool{}
	}
	if add != "" {
		s.Held[add] = true
	}
	delete(s.Held, remove)
	return s
}

// id names a record: namespace, kind and key.
func id(ns, kind, key string) string { return ns + "|" + kind + "|" + key }

func split(name string) (ns, kind, key string) {
	part := strings.SplitN(name, "|", 3)
	return part[0], part[1], part[2]
}

// beliefs are the states that each record may have; a record that is not listed is gone.
type beliefs map[string][]state

func (b beliefs) of(name string) []state {
	if s := b[name]; len(s) > 0 {
		return s
	}
	return []state{gone}
}

func (b beliefs) add(name string, s state) {
	if !slices.ContainsFunc(b.of(name), func(old state) bool { return old.String() == s.String() }) {
		b[name] = append(slices.Clone(b.of(name)), s)
	}
}

func (b beliefs) clone() beliefs {
	out := make(beliefs, len(b))
	for name, s := range b {
		out[name] = slices.Clone(s)
	}
	return out
}

// edge is that while one is there the other is held: by a flat lease only with what its
// fields name.
type edge struct{ from, to string }

const flatly = "flat|" // before the name of what is held flatly

// edges are those of a record in one state; "" is where roots hang.
func edges(name string, s state, now time.Time) (out []edge) {
	if s.Gone {
		return nil
	}
	ns, kind, _ := split(name)
	at, err := time.Parse(time.RFC3339, s.Labels["containerd.io/gc.expire"])
	expired := err == nil && now.After(at)
	hold := func(from, to string) { out = append(out, edge{from, to}) }
	field := func(to string) {
		hold(name, to)
		hold(flatly+name, flatly+to)
	}
	switch kind {
	case "container":
		hold("", name)
		if s.Snapshot != "" {
			field(id(ns, "snapshot", s.Snapshot))
		}
	case "image":
		if !expired {
			hold("", name)
		}
		field(id(ns, "content", s.Target))
	case "snapshot":
		if s.Parent != "" {
			field(id(ns, "snapshot", s.Parent))
		}
	case "lease":
		if expired {
			return nil
		}
		hold("", name)
		prefix := ""
		if _, flat := s.Labels["containerd.io/gc.flat"]; flat {
			prefix = flatly
		}
		for r := range s.Held {
			kind, key, _ := strings.Cut(r, " ")
			hold(name, prefix+id(ns, kind, key))
		}
		return out
	}
	for k, v := range s.Labels {
		if k == "containerd.io/gc.root" && (kind == "content" || kind == "snapshot") {
			hold("", name)
		}
		if word, ok := strings.CutPrefix(k, "containerd.io/gc.ref."); ok {
			word, _, _ = strings.Cut(word, ".")
			hold(name, id(ns, word, v))
		}
		if word, ok := strings.CutPrefix(k, "containerd.io/gc.bref."); ok {
			word, _, _ = strings.Cut(word, ".")
			hold(id(ns, word, v), name)
		}
	}
	return out
}

// held goes round until nothing changes. With sure, only what is there in every state
// counts, with the edges that it has in every state, and else whatever may be.
func (b beliefs) held(now time.Time, sure bool) map[string]bool {
	count := make(map[edge]int)
	all := make(map[edge]string) // the record that it comes of
	for name, states := range b {
		own := make(map[edge]int)
		for _, s := range states {
			for _, e := range uniq(edges(name, s, now)) {
				own[e]++
			}
		}
		for e, n := range own {
			if n == len(states) || !sure {
				count[e]++
				all[e] = name
			}
		}
	}
	there := func(name string) bool { // whether an edge that begins there counts
		name = strings.TrimPrefix(name, flatly)
		if name == "" {
			return true
		}
		states := b.of(name)
		missing := slices.ContainsFunc(states, func(s state) bool { return s.Gone })
		return !missing || !sure && len(states) > 1
	}
	held := map[string]bool{"": true}
	for changed := true; changed; {
		changed = false
		for e := range count {
			if held[e.from] && !held[e.to] && there(e.from) {
				held[e.to] = true
				changed = true
			}
		}
	}
	for name := range maps.Clone(held) {
		held[strings.TrimPrefix(name, flatly)] = true
	}
	return held
}

func uniq(all []edge) (out []edge) {
	seen := make(map[edge]bool)
	for _, e := range all {
		if !seen[e] {
			out = append(out, e)
		}
		seen[e] = true
	}
	return out
}

// doubt notes that whatever was not held for sure may have been collected.
func (b beliefs) doubt(held map[string]bool) {
	for name, states := range b {
		if !held[name] && !strings.Contains(name, "|container|") && !(len(states) == 1 && states[0].Gone) {
			b.add(name, gone)
		}
	}
}

// settle compares with what is there, which is known then.
func (b beliefs) settle(there map[string]state) (wrong []string) {
	names := maps.Clone(there)
	for name := range b {
		names[name] = state{}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		s, ok := there[name]
		if !ok {
			s = gone
		}
		if !slices.ContainsFunc(b.of(name), func(may state) bool { return may.String() == s.String() }) {
			wrong = append(wrong, fmt.Sprintf("%s is %v, and should be one of %v", name, s, b.of(name)))
		}
		if b[name] = []state{s}; s.Gone {
			delete(b, name)
		}
	}
	return wrong
}
