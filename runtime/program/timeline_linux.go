package program

import (
	"slices"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Timeline tells when the ops of a timed program ran. The child goes on writing it
// until it loads a seccomp filter or executes its command. It is for one goroutine.
type Timeline struct {
	prog *Program
	page []byte
	next int // ops before it have been told
	last time.Time
}

// Ran is an op that has ended.
type Ran struct {
	Label      string
	Call       string // as String prints it
	Name       string // of the call
	Start, End time.Time
}

// sharedSize is that of the pages that parent and child share: the result and, of
// a timed program, a timespec for the begin and one for the end of each op.
func (p *Program) sharedSize() int {
	size := int(unsafe.Sizeof(shared{}))
	if p.Timed {
		size += (len(p.ops) + 1) * int(unsafe.Sizeof(unix.Timespec{}))
	}
	return size
}

// Timeline takes over the shared pages; call it right before Release, once. Nil for
// a program that is not timed. The caller closes it.
func (c *Process) Timeline() *Timeline {
	if !c.prog.Timed {
		return nil
	}
	t := &Timeline{prog: c.prog, page: c.arena.page}
	c.arena.page = nil
	t.last = t.at(0)
	return t
}

// Close lets go of the pages.
func (t *Timeline) Close() {
	if t != nil && t.page != nil {
		unix.Munmap(t.page)
		t.page = nil
	}
}

// Begin is when the child began, the zero time when it has not.
func (t *Timeline) Begin() time.Time { return t.at(0) }

// Ran returns the ops that have ended since the last call, in order; left out ones
// are not among them.
func (t *Timeline) Ran() (list []Ran) {
	for i := t.next; i < len(t.prog.ops); i++ {
		end := t.at(i + 1)
		if end.IsZero() {
			continue
		}
		o := t.prog.ops[i]
		list = append(list, Ran{Label: o.label, Call: t.prog.opText(o), Name: o.name, Start: t.last, End: end})
		t.last, t.next = end, i+1
	}
	return list
}

// Rest are the labels of the ops that have not been told of, each once.
func (t *Timeline) Rest() (labels []string) {
	for _, o := range t.prog.ops[t.next:] {
		if !slices.Contains(labels, o.label) {
			labels = append(labels, o.label)
		}
	}
	return labels
}

// Last is when the last op that was told of ended.
func (t *Timeline) Last() time.Time { return t.last }

func (t *Timeline) at(i int) time.Time {
	ts := (*unix.Timespec)(unsafe.Pointer(&t.page[unsafe.Sizeof(shared{})+uintptr(i)*unsafe.Sizeof(unix.Timespec{})]))
	if *ts == (unix.Timespec{}) {
		return time.Time{}
	}
	return time.Unix(ts.Unix())
}
