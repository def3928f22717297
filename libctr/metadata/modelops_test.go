package metadata_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"gantry/libctr/content/contenttest"
)

// op is one call of a client.
type op struct {
	Do     string // see outcome
	NS     string
	Key    string
	Lease  string            `json:",omitempty"`
	Labels map[string]string `json:",omitempty"`
	Kind   string            `json:",omitempty"` // of what is labelled
	Parent string            `json:",omitempty"` // of a snapshot; what a container, image or lease names
	Seed   uint64            `json:",omitempty"` // of a blob
	Sync   bool              `json:",omitempty"`
}

// Outcomes of a call.
const (
	done    = "done"
	exists  = "already exists"
	missing = "not found"
	refused = "failed precondition"
)

// changes are what a call does to records: the state that each has afterwards.
type changes map[string]state

// outcome is what a call answers and does to a world that is known.
func (o op) outcome(world func(name string) state) (string, changes) {
	kind := map[string]string{"blob": "content", "delete": "content", "image": "image", "retarget": "image", "untag": "image",
		"lease": "lease", "end": "lease", "hold": "lease", "free": "lease", "prepare": "snapshot", "commit": "snapshot",
		"remove": "snapshot", "run": "container", "rm": "container", "ingest": "ingest", "label": o.Kind}[o.Do]
	name := id(o.NS, kind, o.Key)
	old := world(name)
	ch := changes{}
	lease := id(o.NS, "lease", o.Lease)
	unleased := o.Lease != "" && world(lease).Gone
	leased := func(add, remove string) {
		if o.Lease != "" && !unleased {
			ch[lease] = world(lease).with(add, remove)
		}
	}
	switch o.Do {
	case "blob":
		if unleased {
			return missing, nil
		}
		leased("content "+o.Key, "")
		if !old.Gone {
			return exists, ch
		}
		ch[name] = state{Labels: o.Labels}
		return done, ch
	case "image", "lease", "run":
		if !old.Gone {
			return exists, nil
		}
		s := state{Labels: o.Labels}
		if o.Do == "run" {
			s.Snapshot = o.Parent
		} else if o.Do == "image" {
			s.Target = o.Parent
			if o.Labels["containerd.io/gc.expire"] != "" {
				if unleased {
					return missing, nil
				}
				leased("image "+o.Key, "")
			}
		}
		ch[name] = s
		return done, ch
	case "prepare":
		if o.Parent != "" {
			if p := world(id(o.NS, "snapshot", o.Parent)); p.Gone {
				return missing, nil
			}
		}
		if !old.Gone {
			return exists, nil
		}
		if unleased {
			return missing, nil
		}
		leased("snapshot "+o.Key, "")
		ch[name] = state{Labels: o.Labels, Parent: o.Parent, Active: true}
		return done, ch
	case "ingest":
		if unleased {
			return missing, nil
		}
		leased("ingest "+o.Key, "")
		ch[name] = state{}
		return done, ch
	}
	if o.Do == "commit" && !world(id(o.NS, "snapshot", o.Parent)).Gone {
		return exists, nil
	}
	if old.Gone {
		return missing, nil
	}
	switch o.Do {
	case "delete", "untag", "end", "rm":
		if o.Do == "delete" || o.Do == "untag" {
			leased("", kind+" "+o.Key)
		}
		ch[name] = gone
	case "label":
		s := old
		s.Labels = o.Labels
		ch[name] = s
	case "retarget":
		s := old
		s.Target = o.Parent
		ch[name] = s
	case "hold":
		ch[name] = old.with(o.Kind+" "+o.Parent, "")
	case "free":
		ch[name] = old.with("", o.Kind+" "+o.Parent)
	case "commit":
		to := id(o.NS, "snapshot", o.Parent)
		if !old.Active {
			return refused, nil
		}
		if unleased {
			return missing, nil
		}
		if o.Lease != "" {
			ch[lease] = world(lease).with("snapshot "+o.Parent, "snapshot "+o.Key)
		}
		ch[to] = state{Labels: o.Labels, Parent: old.Parent}
		ch[name] = gone
	case "remove":
		if world(childrenOf + name).Active {
			return refused, nil
		}
		leased("", "snapshot "+o.Key)
		ch[name] = gone
	}
	return done, ch
}

// childrenOf before a snapshot's name asks whether it has any: Active says so.
const childrenOf = "children of "

// concerns lists the records whose states decide.
func (o op) concerns(b beliefs) []string {
	names := map[string]bool{}
	if o.Lease != "" {
		names[id(o.NS, "lease", o.Lease)] = true
	}
	switch o.Do {
	case "blob", "delete":
		names[id(o.NS, "content", o.Key)] = true
	case "image", "retarget", "untag":
		names[id(o.NS, "image", o.Key)] = true
	case "lease", "end", "hold", "free":
		names[id(o.NS, "lease", o.Key)] = true
	case "prepare", "commit":
		names[id(o.NS, "snapshot", o.Key)] = true
		if o.Parent != "" {
			names[id(o.NS, "snapshot", o.Parent)] = true
		}
	case "remove":
		names[id(o.NS, "snapshot", o.Key)] = true
		names[childrenOf+id(o.NS, "snapshot", o.Key)] = true
	case "run", "rm":
		names[id(o.NS, "container", o.Key)] = true
	case "ingest":
		names[id(o.NS, "ingest", o.Key)] = true
	case "label":
		names[id(o.NS, o.Kind, o.Key)] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// may are the states that a name, or a question about children, may have.
func (b beliefs) may(name string) (out []state) {
	parent, ok := strings.CutPrefix(name, childrenOf)
	if !ok {
		return b.of(name)
	}
	ns, _, key := split(parent)
	none := true
	some := false
	for child, states := range b {
		if cns, kind, _ := split(child); cns != ns || kind != "snapshot" {
			continue
		}
		n := 0
		for _, s := range states {
			if !s.Gone && s.Parent == key {
				n++
			}
		}
		some = some || n > 0
		none = none && n < len(states)
	}
	if some {
		out = append(out, state{Active: true})
	}
	if none {
		out = append(out, gone)
	}
	return out
}

// way is one thing that a call can answer and do, given what is believed.
type way struct {
	outcome string
	given   map[string]state
	changes changes
}

func (o op) ways(b beliefs) (out []way) {
	names := o.concerns(b)
	given := map[string]state{}
	var choose func(i int)
	choose = func(i int) {
		if i == len(names) {
			answer, ch := o.outcome(func(name string) state {
				if s, ok := given[name]; ok {
					return s
				}
				return b.of(name)[0]
			})
			out = append(out, way{answer, maps.Clone(given), ch})
			if name := id(o.NS, "content", o.Key); o.Do == "blob" && o.Sync && answer == done {
				// Announced, and in the backend: this namespace has it now, without labels.
				ch = maps.Clone(ch)
				ch[name] = state{}
				out = append(out, way{exists, maps.Clone(given), ch})
			}
			return
		}
		for _, s := range b.may(names[i]) {
			given[names[i]] = s
			choose(i + 1)
		}
	}
	choose(0)
	return out
}

// author makes up calls.
type author struct {
	*rand.Rand
	now func() time.Time
}

var namespaces = []string{"one", "two"}

func (a author) digest() (string, uint64) {
	seed := uint64(a.IntN(7))
	_, desc := contenttest.Blob(seed, 16)
	return desc.Digest.String(), seed
}

func (a author) snapshot() string { return fmt.Sprint("s", a.IntN(6)) }
func (a author) active() string   { return fmt.Sprint("a", a.IntN(3)) }
func (a author) lease() string    { return fmt.Sprint("l", a.IntN(3)) }

// under is a lease, or none.
func (a author) under() string {
	if a.IntN(4) == 0 {
		return ""
	}
	return a.lease()
}

// labels make up what a record of that kind says to the collector.
func (a author) labels(kind string) map[string]string {
	l := map[string]string{}
	for n := range a.IntN(3) {
		d, _ := a.digest()
		switch a.IntN(8) {
		case 0, 1, 2:
			l[fmt.Sprint("containerd.io/gc.ref.content.", n)] = d
		case 3, 4:
			l[fmt.Sprint("containerd.io/gc.ref.snapshot.overlayfs/", n)] = a.snapshot()
		case 5:
			l[fmt.Sprint("containerd.io/gc.bref.image.", n)] = fmt.Sprint("i", a.IntN(3))
		case 6:
			l[fmt.Sprint("containerd.io/gc.bref.content.", n)] = d
		case 7:
			l["containerd.io/gc.bref.snapshot.overlayfs"] = a.snapshot()
		}
	}
	if kind == "lease" {
		clear(l)
		if a.IntN(3) == 0 {
			l["containerd.io/gc.flat"] = "1"
		}
	}
	if (kind == "content" || kind == "snapshot") && a.IntN(10) == 0 {
		l["containerd.io/gc.root"] = "1"
	}
	if (kind == "image" || kind == "lease") && a.IntN(3) == 0 {
		l["containerd.io/gc.expire"] = a.now().Add(time.Duration(a.IntN(5))*time.Hour + 30*time.Minute).UTC().Format(time.RFC3339)
	}
	if len(l) == 0 {
		return nil
	}
	return l
}

func (a author) op() op {
	ns := namespaces[a.IntN(len(namespaces))]
	digest, seed := a.digest()
	image, container, ingest := fmt.Sprint("i", a.IntN(3)), fmt.Sprint("c", a.IntN(2)), fmt.Sprint("r", a.IntN(2))
	switch n := a.IntN(100); {
	case n < 22:
		return op{Do: "blob", NS: ns, Key: digest, Seed: seed, Lease: a.under(), Labels: a.labels("content"), Sync: a.IntN(2) == 0}
	case n < 26:
		return op{Do: "delete", NS: ns, Key: digest, Lease: a.under()}
	case n < 34:
		return op{Do: "image", NS: ns, Key: image, Parent: digest, Lease: a.under(), Labels: a.labels("image")}
	case n < 37:
		return op{Do: "retarget", NS: ns, Key: image, Parent: digest}
	case n < 41:
		return op{Do: "untag", NS: ns, Key: image, Sync: a.IntN(3) == 0}
	case n < 48:
		return op{Do: "lease", NS: ns, Key: a.lease(), Labels: a.labels("lease")}
	case n < 51:
		return op{Do: "end", NS: ns, Key: a.lease(), Sync: a.IntN(3) == 0}
	case n < 55:
		o := op{Do: "hold", NS: ns, Key: a.lease(), Kind: "content", Parent: digest}
		if a.IntN(2) == 0 {
			o.Kind, o.Parent = "snapshot", a.snapshot()
		}
		if a.IntN(4) == 0 {
			o.Do = "free"
		} else if a.IntN(4) == 0 {
			o.Kind, o.Parent = "image", image
		}
		return o
	case n < 68:
		o := op{Do: "prepare", NS: ns, Key: a.active(), Lease: a.under(), Labels: a.labels("snapshot")}
		if a.IntN(3) > 0 {
			o.Parent = a.snapshot()
		}
		return o
	case n < 80:
		return op{Do: "commit", NS: ns, Key: a.active(), Parent: a.snapshot(), Lease: a.under(), Labels: a.labels("snapshot")}
	case n < 85:
		o := op{Do: "remove", NS: ns, Key: a.snapshot(), Lease: a.under()}
		if a.IntN(3) == 0 {
			o.Key = a.active()
		}
		return o
	case n < 89:
		o := op{Do: "run", NS: ns, Key: container, Parent: a.snapshot(), Labels: a.labels("container")}
		if a.IntN(2) == 0 {
			o.Parent = a.active()
		}
		return o
	case n < 91:
		return op{Do: "rm", NS: ns, Key: container}
	case n < 95:
		return op{Do: "label", NS: ns, Kind: "content", Key: digest, Labels: a.labels("content")}
	case n < 97:
		return op{Do: "label", NS: ns, Kind: "image", Key: image, Labels: a.labels("image")}
	default:
		return op{Do: "ingest", NS: ns, Key: ingest, Lease: a.lease()}
	}
}

// batch makes up calls that run at the same time. What one changes no other looks at,
// but that several may work under one lease, or on one parent.
func (a author) batch(b beliefs) (out []op) {
	shared, owned := map[string]bool{}, map[string]bool{}
	for range 40 {
		o := a.op()
		own, share := o.concerns(b), []string{}
		own = slices.DeleteFunc(own, func(name string) bool {
			common := o.Lease != "" && name == id(o.NS, "lease", o.Lease) ||
				o.Do == "prepare" && o.Parent != "" && name == id(o.NS, "snapshot", o.Parent)
			if common {
				share = append(share, name)
			}
			return common
		})
		if o.Do == "remove" { // its children are others' business
			own = slices.DeleteFunc(own, func(name string) bool { return strings.HasPrefix(name, childrenOf) })
		}
		clash := slices.ContainsFunc(own, func(n string) bool { return owned[n] || shared[n] }) ||
			slices.ContainsFunc(share, func(n string) bool { return owned[n] })
		if clash || o.Do == "remove" && slices.ContainsFunc(out, func(x op) bool { return x.Do == "prepare" || x.Do == "commit" || x.Do == "remove" }) ||
			(o.Do == "prepare" || o.Do == "commit") && slices.ContainsFunc(out, func(x op) bool { return x.Do == "remove" }) {
			continue
		}
		for _, n := range own {
			owned[n] = true
		}
		for _, n := range share {
			shared[n] = true
		}
		if out = append(out, o); len(out) == 5 {
			break
		}
	}
	return out
}
