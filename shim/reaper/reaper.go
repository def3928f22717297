// Package reaper collects the exits of a subreaper's children: processes it was
// told of, and orphans that nobody waits for.
//
// One goroutine reaps, woken by SIGCHLD. What else in the process forks and
// waits for itself (os/exec, a runtime library whose create fails) does so inside
// Guard; while a guard is held, only known processes are reaped, so that no exit
// is stolen, and what has come to life in the guard can be made known before it
// ends. Orphans wait as zombies meanwhile.
package reaper

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Exit tells how a process ended.
type Exit struct {
	Pid int
	// Status is the exit code, or 128+n for signal n.
	Status int
	At     time.Time
}

// Reaper is the process's one reaper. Safe for concurrent use.
type Reaper struct {
	signals chan os.Signal
	quit    chan struct{}
	done    chan struct{}

	mu     sync.Mutex
	known  map[int]chan Exit // guarded by mu
	guards int               // guarded by mu
}

// Subreaper makes this process the parent of its orphaned descendants.
func Subreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	return nil
}

// New starts the reaper. There is at most one per process. Close ends it.
func New() *Reaper {
	r := &Reaper{
		signals: make(chan os.Signal, 1), quit: make(chan struct{}), done: make(chan struct{}),
		known: map[int]chan Exit{},
	}
	signal.Notify(r.signals, unix.SIGCHLD)
	go r.run()
	return r
}

// Close stops reaping and waits for the goroutine.
func (r *Reaper) Close() {
	signal.Stop(r.signals)
	close(r.quit)
	<-r.done
}

func (r *Reaper) run() {
	defer close(r.done)
	for {
		select {
		case <-r.quit:
			return
		case <-r.signals:
			r.sweep()
		}
	}
}

// Guard runs f while the reaper leaves alone what it does not know.
func (r *Reaper) Guard(f func() error) error {
	r.mu.Lock()
	r.guards++
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		r.guards--
		r.mu.Unlock()
		r.wake()
	}()
	return f()
}

// Watch makes a child known, alive or already a zombie, and returns where its
// exit will come, once. It is called inside the Guard in which the child was born.
func (r *Reaper) Watch(pid int) <-chan Exit {
	exit := make(chan Exit, 1)
	r.mu.Lock()
	r.known[pid] = exit
	r.mu.Unlock()
	r.wake()
	return exit
}

func (r *Reaper) wake() {
	select {
	case r.signals <- unix.SIGCHLD:
	default:
	}
}

// sweep reaps everything that may be reaped now.
func (r *Reaper) sweep() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for pid := range r.known {
		r.reap(pid)
	}
	for r.guards == 0 && r.reap(-1) {
	}
}

// reap collects one exit, of pid or of anybody, and says whether there was one.
// It never blocks. It is called under mu, so that no guard begins between a
// look at guards and the wait.
func (r *Reaper) reap(pid int) bool {
	var ws unix.WaitStatus
	for {
		got, err := unix.Wait4(pid, &ws, unix.WNOHANG|unix.WALL, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || got <= 0 {
			return false
		}
		if exit := r.known[got]; exit != nil {
			exit <- Exit{Pid: got, Status: status(ws), At: time.Now()}
			delete(r.known, got)
		}
		return true
	}
}

func status(ws unix.WaitStatus) int {
	if ws.Signaled() {
		return 128 + int(ws.Signal())
	}
	return ws.ExitStatus()
}
