package metadata

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

type nodeKind uint8

const (
	kindContent nodeKind = iota
	kindSnapshot
	kindImage
	kindContainer
	kindLease
)

// node is a record as the collector sees it.
type node struct {
	kind        nodeKind
	namespace   string
	snapshotter string // of snapshots
	key         string
}

func (n node) String() string {
	return fmt.Sprintf("%s %s/%s%s", [...]string{"content", "snapshot", "image", "container", "lease"}[n.kind],
		n.namespace, n.snapshotter, n.key)
}

// record is what one record refers to. Nothing of it need be there.
type record struct {
	own    []node // by its fields: a snapshot's parent, an image's target, a container's snapshot
	labels []node // by its labels
}

// root is something held from outside the graph. A flat one holds what its
// record's fields refer to, and not what its labels do.
type root struct {
	node
	flat bool
}

// graph is all records with what they refer to, and what is held from outside.
type graph struct {
	records map[node]record
	back    map[node][]node // what is kept while the key is, but not by a flat hold of it
	roots   []root
	expires time.Time // when the first of those that count now expires; zero for never
}

// reached is what the roots lead to.
func (g *graph) reached() map[node]bool {
	out := make(map[node]bool, len(g.records))
	flat := make(map[node]bool)
	todo := slices.Clone(g.roots)
	push := func(nodes []node, flat bool) {
		for _, n := range nodes {
			todo = append(todo, root{n, flat})
		}
	}
	for len(todo) > 0 {
		h := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		r, exists := g.records[h.node]
		if !exists || out[h.node] || h.flat && flat[h.node] {
			continue
		}
		push(r.own, h.flat)
		if h.flat {
			flat[h.node] = true
			continue
		}
		out[h.node] = true
		push(r.labels, false)
		push(g.back[h.node], false)
	}
	for n := range flat {
		out[n] = true
	}
	return out
}

// dead lists the records that are not reached, in an order of their own.
func (g *graph) dead() []node {
	reached := g.reached()
	var dead []node
	for n := range g.records {
		if !reached[n] && n.kind != kindContainer {
			dead = append(dead, n)
		}
	}
	slices.SortFunc(dead, func(a, b node) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), strings.Compare(a.namespace, b.namespace),
			strings.Compare(a.snapshotter, b.snapshotter), strings.Compare(a.key, b.key))
	})
	return dead
}
