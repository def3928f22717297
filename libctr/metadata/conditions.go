package metadata

import (
	"strings"
	"time"
)

// Labels of conditional references. One on content or an image,
//
//	containerd.io/gc.cond.snapshot.<snapshotter>[/…] = usedat<24h,usedat>1h|key
//
// keeps the snapshot key while its owner is kept, as long as one of the conditions is
// true of the time that the snapshot's own label containerd.io/gc.cond.value-usedat
// tells (RFC 3339). What is not understood is no condition.
const (
	labelCond         = labelGC + "cond."
	labelUsedAt       = labelCond + "value-usedat"
	conditionSnapshot = "snapshot" // after labelCond
)

// conditions are those of one namespace, until all records have been read.
type conditions struct {
	all  []condition
	used map[node]time.Time // what snapshots tell
	now  time.Time
}

type condition struct {
	of, kept node
	older    bool // true when used longer ago than age, else when not so long
	age      time.Duration
}

// add reads the label cond.<name> of n.
func (c *conditions) add(l loader, n node, name, value string) {
	c.now = l.now
	snapshotter, ok := strings.CutPrefix(name, conditionSnapshot)
	if !ok || n.kind != kindContent && n.kind != kindImage {
		return
	}
	snapshotter, _, _ = strings.Cut(strings.TrimLeft(snapshotter, "./"), "/")
	terms, key, ok := strings.Cut(value, "|")
	if !ok {
		return
	}
	for term := range strings.SplitSeq(terms, ",") {
		text, ok := strings.CutPrefix(term, "usedat")
		if !ok || text == "" || text[0] != '<' && text[0] != '>' {
			continue
		}
		age, err := time.ParseDuration(text[1:])
		if err != nil {
			continue
		}
		c.all = append(c.all, condition{n, l.snapshot(snapshotter, key), text[0] == '>', age})
	}
}

// value reads what a snapshot tells.
func (c *conditions) value(n node, labels map[string]string) {
	at, err := time.Parse(time.RFC3339, labels[labelUsedAt])
	if err != nil {
		return
	}
	if c.used == nil {
		c.used = make(map[node]time.Time)
	}
	c.used[n] = at
}

// meet calls fn for each condition that is true.
func (c *conditions) meet(fn func(of, kept node)) {
	for _, one := range c.all {
		at, known := c.used[one.kept]
		since := c.now.Sub(at)
		if known && (one.older && since > one.age || !one.older && since < one.age) {
			fn(one.of, one.kept)
		}
	}
}
