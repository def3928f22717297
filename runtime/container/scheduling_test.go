package container_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/container"
)

// attr is what the kernel says of a process's scheduling.
func attr(t *testing.T, pid int) *unix.SchedAttr {
	t.Helper()
	a, err := unix.SchedGetAttr(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// started runs a container that sleeps.
func (b *bed) started(change func(*specs.Spec)) *container.Container {
	b.t.Helper()
	s := b.spec("sleep", "100")
	if change != nil {
		change(s)
	}
	c, err := b.create(s, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := c.Start(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
	return c
}

// beside runs a further process that sleeps, and ends it with the test.
func (b *bed) beside(c *container.Container, change func(*specs.Process)) *container.Process {
	b.t.Helper()
	p := &specs.Process{Args: []string{"sleep", "100"}, Cwd: "/", Env: []string{"PATH=/bin"}}
	if change != nil {
		change(p)
	}
	proc, err := c.Exec(b.t.Context(), container.ExecOptions{Process: p})
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() {
		unix.PidfdSendSignal(int(proc.PidFD.Fd()), unix.SIGKILL, nil, 0)
		b.wait(proc.PidFD)
		proc.PidFD.Close()
	})
	return proc
}

func TestScheduler(t *testing.T) {
	for _, c := range []struct {
		give specs.Scheduler
		want unix.SchedAttr
	}{
		{specs.Scheduler{Policy: specs.SchedOther, Nice: 5}, unix.SchedAttr{Policy: unix.SCHED_NORMAL, Nice: 5}},
		{specs.Scheduler{Policy: specs.SchedBatch, Nice: 7, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}},
			unix.SchedAttr{Policy: unix.SCHED_BATCH, Nice: 7, Flags: unix.SCHED_FLAG_RESET_ON_FORK}},
		{specs.Scheduler{Policy: specs.SchedIdle}, unix.SchedAttr{Policy: unix.SCHED_IDLE}},
		{specs.Scheduler{Policy: specs.SchedFIFO, Priority: 3}, unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: 3}},
		{specs.Scheduler{Policy: specs.SchedRR, Priority: 4}, unix.SchedAttr{Policy: unix.SCHED_RR, Priority: 4}},
		{specs.Scheduler{Policy: specs.SchedDeadline, Runtime: 1e6, Deadline: 1e9, Period: 1e9, Flags: []specs.LinuxSchedulerFlag{specs.SchedFlagResetOnFork}},
			unix.SchedAttr{Policy: unix.SCHED_DEADLINE, Runtime: 1e6, Deadline: 1e9, Period: 1e9, Flags: unix.SCHED_FLAG_RESET_ON_FORK}},
	} {
		t.Run(string(c.give.Policy), func(t *testing.T) {
			b := newBed(t)
			s := b.spec("sleep", "100")
			s.Process.Scheduler = &c.give
			ctr, err := b.create(s, nil)
			if errors.Is(err, unix.EPERM) && c.give.Policy != specs.SchedOther {
				t.Skipf("this host's cgroup has no realtime budget: %v", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			a := attr(t, ctr.Pid())
			if a.Policy != c.want.Policy || a.Nice != c.want.Nice || a.Priority != c.want.Priority || a.Flags != c.want.Flags ||
				c.want.Runtime != 0 && (a.Runtime != c.want.Runtime || a.Deadline != c.want.Deadline || a.Period != c.want.Period) {
				t.Errorf("%+v, want %+v", *a, c.want)
			}
		})
	}
}

// TestSchedulerErrors: what the kernel refuses is said with its name.
func TestSchedulerErrors(t *testing.T) {
	for _, give := range []specs.Scheduler{
		{Policy: specs.SchedISO},
		{Policy: specs.SchedDeadline, Runtime: 5, Deadline: 4, Period: 3},
	} {
		b := newBed(t)
		s := b.spec("true")
		s.Process.Scheduler = &give
		if _, err := b.create(s, nil); err == nil || !strings.HasPrefix(err.Error(), "set scheduler: ") {
			t.Errorf("%s: error %v", give.Policy, err)
		}
	}
}

// TestExecInherits: a further process has the container's settings where it has none.
func TestExecInherits(t *testing.T) {
	b := newBed(t)
	mask := uint32(0o077)
	c := b.started(func(s *specs.Spec) {
		s.Process.Scheduler = &specs.Scheduler{Policy: specs.SchedBatch, Nice: 3}
		s.Process.IOPriority = &specs.LinuxIOPriority{Class: specs.IOPRIO_CLASS_BE, Priority: 6}
		s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 33, Hard: 44}}
		s.Process.User.Umask = &mask
		s.Linux.Personality = &specs.LinuxPersonality{Domain: specs.PerLinux32, Flags: []specs.LinuxPersonalityFlag{"ADDR_NO_RANDOMIZE"}}
	})
	p := b.beside(c, nil)
	for _, pid := range []int{c.Pid(), p.Pid} {
		if a := attr(t, pid); a.Policy != unix.SCHED_BATCH || a.Nice != 3 {
			t.Errorf("scheduler %+v", a)
		}
		io, _, _ := unix.Syscall(unix.SYS_IOPRIO_GET, 1, uintptr(pid), 0)
		if io != 2<<13|6 {
			t.Errorf("I/O priority %#x", io)
		}
		if b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/personality", pid)); string(b) != "00000008\n" {
			t.Errorf("personality %q", b)
		}
		var l unix.Rlimit
		if unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &l); l.Cur != 33 || l.Max != 44 {
			t.Errorf("limit %+v", l)
		}
	}
	other := b.beside(c, func(p *specs.Process) { p.Scheduler = &specs.Scheduler{Policy: specs.SchedOther, Nice: 1} })
	if a := attr(t, other.Pid); a.Policy != unix.SCHED_NORMAL || a.Nice != 1 {
		t.Errorf("scheduler %+v", a)
	}
	out, _ := b.execProcess(c, &specs.Process{Args: []string{"sh", "-c", "umask; uname -m"}, Cwd: "/", Env: []string{"PATH=/bin"}})
	if machine := map[string]string{"amd64": "i686", "arm64": "armv8l"}[runtime.GOARCH]; out != "0077\n"+machine+"\n" {
		t.Errorf("output %q", out)
	}
}

func cpus(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if list, ok := strings.CutPrefix(line, "Cpus_allowed_list:\t"); ok {
			return strings.TrimSpace(list)
		}
	}
	return ""
}

func TestExecCPUAffinity(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two processors to tell apart")
	}
	b := newBed(t)
	everywhere := cpus(t, os.Getpid())
	c := b.started(func(s *specs.Spec) { s.Process.ExecCPUAffinity = &specs.CPUAffinity{Initial: "1", Final: "0"} })
	if got := cpus(t, c.Pid()); got != everywhere {
		t.Errorf("the init is on %s", got)
	}
	for _, tc := range []struct {
		give *specs.CPUAffinity
		want []string
	}{
		{nil, []string{"0"}}, // the container's
		{&specs.CPUAffinity{Initial: "0-1", Final: "1"}, []string{"1"}},
		// Up to the kernel: before Linux 6.2 a move to another cgroup made it forget.
		{&specs.CPUAffinity{Initial: "1"}, []string{"1", everywhere}},
		{&specs.CPUAffinity{}, []string{everywhere}},
	} {
		p := b.beside(c, func(p *specs.Process) { p.ExecCPUAffinity = tc.give })
		if got := cpus(t, p.Pid); !slices.Contains(tc.want, got) {
			t.Errorf("%+v: on %s, want %s", tc.give, got, tc.want)
		}
	}
	if got := cpus(t, os.Getpid()); got != everywhere {
		t.Errorf("we are on %s now", got)
	}
	_, err := c.Exec(t.Context(), container.ExecOptions{Process: &specs.Process{Args: []string{"true"}, Cwd: "/",
		ExecCPUAffinity: &specs.CPUAffinity{Initial: "1000"}}})
	if err == nil || err.Error() != "set initial CPU affinity: invalid argument" {
		t.Errorf("error %v", err)
	}
	if got := cpus(t, os.Getpid()); got != everywhere {
		t.Errorf("we are on %s now", got)
	}
}

// TestAffinityOfTheRuntime is not the container's.
func TestAffinityOfTheRuntime(t *testing.T) {
	if runtime.NumCPU() < 2 {
		t.Skip("needs two processors to tell apart")
	}
	b := newBed(t)
	everywhere := cpus(t, os.Getpid())
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	var one unix.CPUSet
	one.Set(0)
	if err := unix.SchedSetaffinity(0, &one); err != nil {
		t.Fatal(err)
	}
	c := b.started(nil)
	p := b.beside(c, nil)
	for _, pid := range []int{c.Pid(), p.Pid} {
		if got := cpus(t, pid); got != everywhere {
			t.Errorf("on %s, want %s", got, everywhere)
		}
	}
}

// weightedInterleave tries the policy on a thread that ends with it.
func weightedInterleave() bool {
	errno := make(chan unix.Errno)
	go func() {
		runtime.LockOSThread()
		node := uint64(1)
		_, _, e := unix.RawSyscall(unix.SYS_SET_MEMPOLICY, unix.MPOL_WEIGHTED_INTERLEAVE, uintptr(unsafe.Pointer(&node)), 64)
		errno <- e
	}()
	return <-errno == 0
}

func TestMemoryPolicy(t *testing.T) {
	if _, err := os.Stat("/proc/self/numa_maps"); err != nil {
		t.Skip("needs a kernel with memory policies")
	}
	for _, c := range []struct {
		give specs.LinuxMemoryPolicy
		want string
	}{
		{specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0"}, "bind:0"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MpolFStaticNodes}}, "bind=static:0"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolInterleave, Nodes: "0", Flags: []specs.MemoryPolicyFlagType{specs.MpolFRelativeNodes}}, "interleave=relative:0"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolPreferred, Nodes: "0"}, "prefer:0"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolPreferredMany, Nodes: "0"}, "prefer (many):0"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolWeightedInterleave, Nodes: "0"}, "weighted interleave:0"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolLocal}, "local"},
		{specs.LinuxMemoryPolicy{Mode: specs.MpolDefault}, "default"},
	} {
		t.Run(c.want, func(t *testing.T) {
			if c.give.Mode == specs.MpolWeightedInterleave && !weightedInterleave() {
				t.Skip("needs weighted interleaving: Linux 6.9")
			}
			b := newBed(t)
			ctr := b.started(func(s *specs.Spec) { s.Linux.MemoryPolicy = &c.give })
			p := b.beside(ctr, nil)
			for _, pid := range []int{ctr.Pid(), p.Pid} {
				maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/numa_maps", pid))
				if err != nil {
					t.Fatal(err)
				}
				if first, _, _ := strings.Cut(string(maps), "\n"); !strings.Contains(first, " "+c.want+" ") {
					t.Errorf("%q, want %s", first, c.want)
				}
			}
		})
	}
	b := newBed(t)
	s := b.spec("true")
	s.Linux.MemoryPolicy = &specs.LinuxMemoryPolicy{Mode: specs.MpolBind, Nodes: "1000"}
	if _, err := b.create(s, nil); err == nil || err.Error() != "set memory policy: invalid argument" {
		t.Errorf("error %v", err)
	}
}

func TestEnvironment(t *testing.T) {
	b := newBed(t)
	s := b.spec("env")
	s.Process.Env = []string{"A=1", "PATH=/nowhere", "B=2", "A=3=4", "PATH=/bin", "HOME="}
	if out, status := b.run(s); out != "B=2\nA=3=4\nPATH=/bin\nHOME=\n" || status != 0 {
		t.Errorf("output %q, status %d", out, status)
	}
}
