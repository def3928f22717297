package program_test

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// The tests of this file pin what the package assumes of the Go runtime. One
// that fails after a new Go release says: read runtime_BeforeFork,
// runtime_AfterFork and runtime_AfterForkInChild again before anything else.

// lines of a /proc/<pid>/status file, by name.
func procStatus(t *testing.T, pid int) map[string]string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]string{}
	for line := range strings.Lines(string(b)) {
		k, v, _ := strings.Cut(strings.TrimSpace(line), ":")
		m[k] = strings.TrimSpace(v)
	}
	return m
}

const none = "0000000000000000"

// TestChildIsAlone: one thread, no handler of Go's, nothing ignored or blocked
// after the protocol's last step, even while other goroutines use all threads
// and signals are caught.
func TestChildIsAlone(t *testing.T) {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, unix.SIGUSR1, unix.SIGTERM)
	signal.Ignore(unix.SIGUSR2)
	defer signal.Reset(unix.SIGUSR1, unix.SIGUSR2, unix.SIGTERM)
	defer busy()()

	p := program.New()
	p.SignalDefaults()
	p.Ask('a')
	p.Exit()
	for range 20 {
		c := spawn(t, p, nil)
		next(t, c)
		st := procStatus(t, c.Pid)
		if st["Threads"] != "1" || st["SigBlk"] != none || st["SigIgn"] != none || st["SigCgt"] != none {
			t.Fatalf("threads %s, blocked %s, ignored %s, caught %s", st["Threads"], st["SigBlk"], st["SigIgn"], st["SigCgt"])
		}
		c.Abort()
	}
}

// busy keeps the scheduler, the collector and growing stacks at work until the
// function it returns is called.
func busy() (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			for n := 1; ; n++ {
				select {
				case <-done:
					return
				default:
					deep(n % 500)
					runtime.Gosched()
				}
			}
		})
	}
	return func() { close(done); wg.Wait() }
}

func deep(n int) int {
	var pad [64]byte
	if n == 0 {
		return len(pad)
	}
	return deep(n-1) + int(pad[n%64])
}

// TestParentIsWhole: the parent's thread has its signal mask back, stacks grow
// again, and signals are still delivered.
func TestParentIsWhole(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := threadMask(t)
	p := program.New()
	p.Exit()
	c := spawn(t, p, nil)
	if after := threadMask(t); after != before {
		t.Errorf("mask %s, was %s", after, before)
	}
	deep(10000)
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, unix.SIGUSR1)
	defer signal.Reset(unix.SIGUSR1)
	unix.Tgkill(os.Getpid(), unix.Gettid(), unix.SIGUSR1)
	<-caught
	next(t, c)
}

func threadMask(t *testing.T) string {
	b, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), "SigBlk:")
	mask, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(mask)
}

// TestManyAtOnce: programs start side by side, each child with its own memory.
func TestManyAtOnce(t *testing.T) {
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				p := program.New()
				p.Tell(byte('a' + i))
				p.Tell(byte('0' + j))
				p.Exit()
				c, err := program.Start(p, nil)
				if err != nil {
					t.Error(err)
					return
				}
				a, _ := c.Next(t.Context())
				b, _ := c.Next(t.Context())
				end, err := c.Next(t.Context())
				if a.Code != byte('a'+i) || b.Code != byte('0'+j) || end.Kind != program.Exited {
					t.Errorf("%c %c %v %v", a.Code, b.Code, end, err)
				}
				c.Abort()
			}
		})
	}
	wg.Wait()
}

// TestHiddenChild: a child without an exit signal is not found by a reaper that
// does not ask for it.
func TestHiddenChild(t *testing.T) {
	p := program.New()
	p.Clone.Signal = 0
	p.Exit()
	c := spawn(t, p, nil)
	next(t, c)
	if err := unix.Waitid(unix.P_PIDFD, int(c.PidFD.Fd()), nil, unix.WEXITED, nil); err != unix.ECHILD {
		t.Errorf("ordinary wait: %v, want ECHILD", err)
	}
	if _, err := program.Reap(c.PidFD); err != nil {
		t.Errorf("reap: %v", err)
	}
}
