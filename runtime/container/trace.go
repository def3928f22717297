package container

import (
	"context"
	"strconv"
	"strings"
	"time"

	"gantry/runtime/hop"
	"gantry/runtime/program"
)

// initProcess is the name of the container's first process in hops.
const initProcess = "init"

// maxCall bounds the text of a call in a hop, in bytes.
const maxCall = 160

// tellSetup notes what the init did from its birth until it waits for its start.
func tellSetup(ctx context.Context, t *program.Timeline, pid int) {
	ran := t.Ran()
	tellRan(ctx, hop.Hop{Name: "set up the container", Process: initProcess, Pid: pid, Start: t.Begin(), End: t.Last()}, ran)
}

// tellStart notes what the init did from its release to its execve, which the
// closing of its connection at end tells: what follows the seccomp filter can't be
// told apart.
func tellStart(ctx context.Context, t *program.Timeline, pid int, released, end time.Time) {
	ran := t.Ran()
	for i := range ran { // it waited since its set-up
		if ran[i].Start.Before(released) {
			ran[i].Start = earlier(released, ran[i].End)
		}
	}
	last := earlier(t.Last(), end)
	if last.Before(released) {
		last = released
	}
	ran = append(ran, program.Ran{Label: strings.Join(t.Rest(), ", "), Name: "execve", Call: "execve", Start: last, End: end})
	tellRan(ctx, hop.Hop{Name: "become the command", Process: initProcess, Pid: pid, Start: released, End: end}, ran)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// tellRan notes whole and, as its parts, the ops: those with one label as one hop,
// which has its ops as parts where they are several.
func tellRan(ctx context.Context, whole hop.Hop, ran []program.Ran) {
	in := hop.Done(ctx, whole)
	for len(ran) > 0 {
		n := 1
		for n < len(ran) && ran[n].Label == ran[0].Label {
			n++
		}
		group := hop.Hop{Name: ran[0].Label, Process: whole.Process, Pid: whole.Pid, Start: ran[0].Start, End: ran[n-1].End}
		if n == 1 {
			if group.Name == "" {
				group.Name = ran[0].Name
			}
			group.Attributes = call(ran[0])
			hop.Done(in, group)
		} else {
			tellGroup(in, group, ran[:n])
		}
		ran = ran[n:]
	}
}

func tellGroup(ctx context.Context, group hop.Hop, ran []program.Ran) {
	group.Attributes = map[string]string{"calls": strconv.Itoa(len(ran))}
	in := hop.Done(ctx, group)
	for _, r := range ran {
		hop.Done(in, hop.Hop{Name: r.Name, Process: group.Process, Pid: group.Pid, Start: r.Start, End: r.End, Attributes: call(r)})
	}
}

func call(r program.Ran) map[string]string {
	text := r.Call
	if len(text) > maxCall {
		text = text[:maxCall] + "…"
	}
	return map[string]string{"call": text}
}
