package plan

import (
	"strconv"

	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

const allSignals = ^uint64(0)

// begin lets go of what the parent has open, and of what Go made of signals.
func (b *builder) begin() {
	b.Label("set up descriptors")
	stdio := []program.Reg{b.Input(InStdin), b.Input(InStdout), b.Input(InStderr)}
	for i := range b.o.Extra {
		stdio = append(stdio, b.Input(InExtra(i)))
	}
	rest := b.restInputs()
	b.Keep(len(stdio), append(stdio, rest...)...)
	b.SignalMask(allSignals, "all")
	b.SignalDefaults()
	for fd, r := range stdio {
		b.Dup(r, fd)
	}
	b.CloseAllBut(len(stdio), rest...)
	if adj := b.o.Process.OOMScoreAdj; adj != nil {
		b.Label("set oom_score_adj to %d", *adj)
		f, _ := b.Open("file", program.Cwd, "/proc/self/oom_score_adj", unix.O_WRONLY)
		b.Write(f, strconv.Itoa(*adj)).Tolerate(unix.EACCES, unix.EPERM).Note()
		b.Close(f)
	}
	b.session()
	b.Label("set umask")
	b.Call("umask", unix.SYS_UMASK, program.Num(0))
}

func (b *builder) session() {
	b.Label("start a session")
	b.Call("setsid", unix.SYS_SETSID)
}

// restInputs declares every input beside stdio.
func (b *builder) restInputs() (rest []program.Reg) {
	for i := range b.o.Tasks {
		rest = append(rest, b.Input(InTasks(i)))
	}
	for i := range b.o.Groups {
		rest = append(rest, b.Input(InGroup(i)))
	}
	if b.o.Start {
		rest = append(rest, b.Input(InListener))
	}
	if b.isExec {
		return append(rest, b.Input(InPidFD), b.Input(InRoot))
	}
	rest = append(rest, b.ns.inputs(b)...)
	return append(rest, b.mountInputs()...)
}

// joinCgroups moves the child alone, which costs the kernel least; it comes
// before the cgroup namespace, whose root it decides.
func (b *builder) joinCgroups() {
	b.bornInCgroup()
	b.joinTasks()
}

func (b *builder) bornInCgroup() {
	if b.o.Cgroup {
		b.Clone.Cgroup = b.Input(InCgroup)
	}
}

func (b *builder) joinTasks() {
	b.Label("join cgroup")
	for i := range b.o.Tasks {
		b.joinTask(b.Input(InTasks(i)))
	}
	for i := range b.o.Groups {
		b.Label("join resctrl group")
		b.joinTask(b.Input(InGroup(i)))
	}
}

func (b *builder) joinTask(f program.Reg) {
	b.Write(f, "0")
	b.Close(f)
}
