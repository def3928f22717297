package main

import (
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/console"
	"golang.org/x/sys/unix"

	"gantry/cmd/grun/first"
)

// stdio is a process's files.
type stdio struct{ in, out, err *os.File }

// inherited gives the process our own files.
func (r *request) inherited() stdio { return stdio{r.stdin, r.stdout, r.stderr} }

// foreground stands between us and a process that we wait for: it carries its
// streams, over pipes or a terminal, forwards our signals and reaps. The process
// never holds our own files, through which it could reach our terminal.
type foreground struct {
	theirs  stdio // the process's ends of the pipes, ours to close
	ours    stdio
	r       *request
	signals chan os.Signal
	tty     console.Console // our terminal in raw mode, nil if none
	master  console.Console // the process's terminal, nil if none
	outputs []*os.File      // what the copies read
	copies  sync.WaitGroup
}

// newForeground makes the pipes and begins to keep signals for the process.
func newForeground(r *request) (*foreground, error) {
	f := &foreground{r: r, signals: make(chan os.Signal, 256)}
	for _, p := range []struct{ read, write **os.File }{
		{&f.theirs.in, &f.ours.in}, {&f.ours.out, &f.theirs.out}, {&f.ours.err, &f.theirs.err},
	} {
		read, write, err := os.Pipe()
		if err != nil {
			f.close()
			return nil, fmt.Errorf("pipe: %w", err)
		}
		*p.read, *p.write = read, write
	}
	signal.Notify(f.signals, early...)
	return f, nil
}

// attach begins to carry the streams of the process, which exists; console is
// the master of its terminal if it has one.
func (f *foreground) attach(master *os.File) error {
	f.theirs.close()
	if master != nil {
		return f.attachConsole(master)
	}
	go func() { // ends with our stdin or with us
		copyFile(f.ours.in, f.r.stdin)
		f.ours.in.Close()
	}()
	f.carry(f.r.stdout, f.ours.out)
	f.carry(f.r.stderr, f.ours.err)
	return nil
}

func (f *foreground) attachConsole(master *os.File) error {
	f.ours.close()
	control, stream, err := split(master)
	if err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	if f.master, err = console.ConsoleFromFile(control); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	if err := keepLineEnds(control); err != nil {
		return err
	}
	if tty := f.r.terminal(); tty != nil {
		f.master.ResizeFrom(tty)
		if err := tty.SetRaw(); err != nil {
			return fmt.Errorf("terminal: %w", err)
		}
		f.tty = tty
	}
	go copyFile(stream, f.r.stdin) // ends with our stdin or with us
	f.carry(f.r.stdout, stream)
	return nil
}

// terminal is our own, nil for none: then output goes where it goes, and input is
// taken as it is.
func (r *request) terminal() console.Console {
	for _, f := range []*os.File{r.stderr, r.stdout, r.stdin} {
		if tty, err := console.ConsoleFromFile(f); err == nil {
			return tty
		}
	}
	return nil
}

// keepLineEnds has line ends turned once: by our own terminal, whose raw mode
// keeps that, and not by the process's. It comes before the process writes.
func keepLineEnds(master *os.File) error {
	if err := console.ClearONLCR(master.Fd()); err != nil {
		return fmt.Errorf("terminal: %w", err)
	}
	return nil
}

// split gives two files of one terminal and closes it: one to control it, whose
// Fd does not make the other one block, and one that can be interrupted.
func split(master *os.File) (control, stream *os.File, err error) {
	defer master.Close()
	var fds [2]int
	for i := range fds {
		if fds[i], err = unix.FcntlInt(master.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
			return nil, nil, err
		}
	}
	control = os.NewFile(uintptr(fds[0]), master.Name()) // blocking, by Fd above
	if err := unix.SetNonblock(fds[1], true); err != nil {
		return nil, nil, err
	}
	return control, os.NewFile(uintptr(fds[1]), master.Name()), nil
}

func (f *foreground) carry(to, from *os.File) {
	f.outputs = append(f.outputs, from)
	f.copies.Go(func() { copyFile(to, from) })
}

// wait forwards signals until the process has ended, has all that it wrote
// carried, and returns its exit status. It reaps every child of ours.
func (f *foreground) wait(pid int, pidfd *os.File) int {
	first.Stay()
	defer time.AfterFunc(lateAfter, func() { signal.Notify(f.signals, late()...) }).Stop()
	for {
		if status, ended := reapUntil(pid); ended {
			f.r.log.debugf("process %d exited: %d", pid, status)
			f.finish()
			return status
		}
		s := (<-f.signals).(syscall.Signal)
		switch {
		case s == unix.SIGWINCH:
			if f.tty != nil {
				f.master.ResizeFrom(f.tty)
			}
		case forwarded(s):
			f.r.log.debugf("forwarding signal %d (%s) to %d", s, unix.SignalName(s), pid)
			unix.PidfdSendSignal(int(pidfd.Fd()), s, nil, 0)
		}
	}
}

// finish ends the copies: descendants that still hold the streams don't keep us,
// but what was written before is carried.
func (f *foreground) finish() {
	for _, out := range f.outputs {
		interrupt(out)
	}
	f.copies.Wait()
}

func (f *foreground) close() {
	if f.tty != nil {
		f.tty.Reset()
		f.tty = nil
	}
	f.theirs.close()
	f.ours.close()
}

func (s *stdio) close() {
	for _, f := range []*os.File{s.in, s.out, s.err} {
		closeFile(f)
	}
}

func becomeSubreaper() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("become subreaper: %w", err)
	}
	return nil
}

// reapUntil collects ended children and says whether pid was among them.
func reapUntil(pid int) (status int, ended bool) {
	for {
		var ws unix.WaitStatus
		got, err := unix.Wait4(-1, &ws, unix.WNOHANG|unix.WALL, nil)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.ECHILD && !ended:
			return 255, true // someone else has collected it
		case err != nil || got <= 0:
			return status, ended
		case got == pid && ws.Signaled():
			status, ended = 128+int(ws.Signal()), true
		case got == pid:
			status, ended = ws.ExitStatus(), true
		}
	}
}
