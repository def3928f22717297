package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Process is a child that runs a program. Its methods are for one goroutine.
type Process struct {
	Pid   int
	PidFD *os.File // the caller's, also after Release

	prog  *Program
	arena *arena
	sync  *os.File
}

// Error is a call of a program that failed. Its text is "label: errno".
type Error struct {
	Label string
	Call  string // the op as String prints it
	Name  string // the name of the call
	Errno unix.Errno
}

func (e *Error) Error() string {
	if e.Label == "" {
		return e.Call + ": " + e.Errno.Error()
	}
	return e.Label + ": " + e.Errno.Error()
}

func (e *Error) Unwrap() error { return e.Errno }

// Note is a tolerated failure of an op with Note.
type Note struct {
	Label string
	Errno unix.Errno
}

// ErrDied says that the child ended without a word, by a signal for instance.
var ErrDied = errors.New("child ended early")

// Event is what a child says.
type Event struct {
	Kind EventKind
	Code byte     // of Ask, Tell, TellFD
	File *os.File // of TellFD; the receiver's
}

// EventKind says what an Event is.
type EventKind int

// The kinds of Event.
const (
	Asked  EventKind = iota // the child waits for Answer
	Told                    // the child goes on
	Execed                  // the child now runs what it was to run: the end
	Waits                   // the child waits for its start: the end
	Exited                  // the child ran Exit: the end
)

// Start clones a child that runs p. files are p's inputs, by name; they stay
// the caller's. A child that fails is the caller's to reap; see Abort.
func Start(p *Program, files map[string]*os.File) (_ *Process, err error) {
	a, err := assemble(p)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			a.unmap()
		}
	}()
	ours, theirs, err := syncPair()
	if err != nil {
		return nil, err
	}
	defer unix.Close(theirs)
	regs := a.regs(len(p.regs))
	regs[regSync] = int64(theirs)
	a.machine().peer = uintptr(ours)
	for _, r := range p.inputs[1:] {
		f := files[p.regs[r]]
		if f == nil {
			unix.Close(ours)
			return nil, fmt.Errorf("no file for input %q", p.regs[r])
		}
		regs[r] = int64(f.Fd())
	}
	proc := &Process{prog: p, arena: a, sync: os.NewFile(uintptr(ours), "sync")}
	if err := proc.clone(regs); err != nil {
		proc.sync.Close()
		return nil, err
	}
	runtime.KeepAlive(files)
	return proc, nil
}

func syncPair() (ours, theirs int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, 0, fmt.Errorf("socket pair: %w", err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		unix.Close(fds[0])
		unix.Close(fds[1])
		return 0, 0, fmt.Errorf("socket pair: %w", err)
	}
	return fds[0], fds[1], nil
}

func (c *Process) clone(regs []int64) error {
	how := c.prog.Clone
	m := c.arena.machine()
	args := &cloneArgs{
		flags:      how.Flags | unix.CLONE_PIDFD,
		pidfd:      uint64(uintptr(unsafe.Pointer(&m.pidfd))),
		exitSignal: uint64(how.Signal),
	}
	if how.Cgroup != 0 {
		args.flags |= unix.CLONE_INTO_CGROUP
		args.cgroup = uint64(regs[how.Cgroup])
	}
	pidns, own := -1, -1
	if how.PidNS != 0 {
		f, err := os.Open("/proc/thread-self/ns/pid")
		if err != nil {
			return err
		}
		defer f.Close()
		pidns, own = int(regs[how.PidNS]), int(f.Fd())
	}
	unpin, err := pinned(how.CPUs)
	if err != nil {
		return err
	}
	pid, step, errno := forkAndRun(m, args, pidns, own)
	if step != stepBack {
		unpin()
	} // a thread that is not back in its pid namespace ends with its goroutine
	if pid != 0 {
		c.Pid, c.PidFD = int(pid), os.NewFile(uintptr(m.pidfd), "pidfd")
	}
	switch {
	case errno == 0:
		return nil
	case step == stepEnter:
		return fmt.Errorf("join pid namespace: %w", errno)
	case step == stepBack && pid != 0:
		c.kill()
		return fmt.Errorf("return to own pid namespace: %w", errno)
	}
	return fmt.Errorf("clone %s: %w", cloneFlags(how.Flags), errno)
}

// Next waits for what the child says next. A failed op is an *Error; a child
// that ended otherwise is ErrDied. ctx ends the wait, not the child.
func (c *Process) Next(ctx context.Context) (Event, error) {
	stop := context.AfterFunc(ctx, func() { c.sync.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	msg, file, err := receive(c.sync)
	switch {
	case err == io.EOF:
		return c.end()
	case err != nil && ctx.Err() != nil:
		return Event{}, ctx.Err()
	case err != nil:
		return Event{}, fmt.Errorf("hear from child: %w", err)
	}
	ev := Event{Kind: Told, Code: msg[1], File: file}
	if msg[0] == 'c' {
		ev.Kind = Asked
	}
	return ev, nil
}

func receive(f *os.File) (msg [2]byte, file *os.File, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return msg, nil, err
	}
	oob := make([]byte, unix.CmsgSpace(4))
	var n, oobn int
	rerr := conn.Read(func(fd uintptr) bool {
		n, oobn, _, _, err = unix.Recvmsg(int(fd), msg[:], oob, unix.MSG_CMSG_CLOEXEC)
		return err != unix.EAGAIN && err != unix.EINTR
	})
	switch {
	case rerr != nil:
		return msg, nil, rerr
	case err != nil && err != unix.ECONNRESET:
		return msg, nil, err
	case n < len(msg):
		return msg, nil, io.EOF
	}
	return msg, receivedFile(oob[:oobn]), nil
}

func receivedFile(oob []byte) *os.File {
	cmsgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(cmsgs) == 0 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&cmsgs[0])
	if err != nil || len(fds) == 0 {
		return nil
	}
	return os.NewFile(uintptr(fds[0]), "received")
}

// end reads the shared page once the child has let go of the socket.
func (c *Process) end() (Event, error) {
	s := c.arena.shared()
	switch atomic.LoadUint32(&s.state) {
	case stateExec:
		return Event{Kind: Execed}, nil
	case stateWaits:
		return Event{Kind: Waits}, nil
	case stateExited:
		return Event{Kind: Exited}, nil
	case stateFailed:
		return Event{}, c.failure(int(s.op), unix.Errno(s.errno))
	}
	return Event{}, ErrDied
}

func (c *Process) failure(i int, e unix.Errno) error {
	if i >= len(c.prog.ops) {
		return fmt.Errorf("program has no end")
	}
	o := c.prog.ops[i]
	return &Error{Label: o.label + o.detail, Call: c.prog.opText(o), Name: o.name, Errno: e}
}

// Answer lets a child that asked go on. That it is gone meanwhile is for Next to tell.
func (c *Process) Answer() error {
	if _, err := c.sync.Write([]byte{1}); err != nil && !errors.Is(err, unix.EPIPE) {
		return fmt.Errorf("answer child: %w", err)
	}
	return nil
}

// Notes are the tolerated failures so far of ops with Note.
func (c *Process) Notes() []Note {
	s := c.arena.shared()
	var notes []Note
	for _, n := range s.notes[:min(s.nnotes, maxNotes)] {
		if int(n.op) < len(c.prog.ops) {
			notes = append(notes, Note{c.prog.ops[n.op].label, unix.Errno(n.errno)})
		}
	}
	return notes
}

// Child is the pid that the program made known, 0 if none.
func (c *Process) Child() int { return int(atomic.LoadUint32(&c.arena.shared().pid)) }

// Adopt makes the child that the program has cloned, and which now runs the
// rest of it, the process that c stands for, and reaps the first one.
func (c *Process) Adopt() error {
	pid := c.Child()
	fd, err := openChild(pid)
	if err != nil {
		return err
	}
	Reap(c.PidFD)
	c.PidFD.Close()
	c.Pid, c.PidFD = pid, fd
	return nil
}

// openChild opens a child of ours and no other process: the number is one that a program has
// left.
func openChild(pid int) (*os.File, error) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return nil, fmt.Errorf("pidfd of %d: %w", pid, err)
	}
	if err := unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT|unix.WALL, nil); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("process %d is not a child: %w", pid, err)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// Release frees what the talk with the child took. The child goes on; one that
// waits for an answer leaves.
func (c *Process) Release() {
	if c.arena == nil {
		return
	}
	c.sync.Close()
	c.arena.unmap()
	c.arena = nil
}

// Abort kills and reaps the child, closes PidFD and releases the rest.
func (c *Process) Abort() {
	if c.arena == nil {
		c.kill()
		return
	}
	c.sync.Close()
	first := c.Pid
	c.kill()
	if pid := c.Child(); pid != 0 && pid != first { // by ForkOn, and not adopted: ours to reap
		if fd, err := openChild(pid); err == nil {
			c.PidFD = fd
			c.kill()
		}
	}
	c.arena.unmap()
	c.arena = nil
}

func (c *Process) kill() {
	if c.PidFD == nil {
		return
	}
	unix.PidfdSendSignal(int(c.PidFD.Fd()), unix.SIGKILL, nil, 0)
	if dies(c.PidFD) {
		Reap(c.PidFD)
	}
	c.PidFD.Close()
	c.PidFD = nil
}

// deathTimeout is how long a killed child may take to end: one that sleeps in the kernel,
// on a dead file system for one, is left to who reaps this process's orphans.
const deathTimeout = 5 * time.Second

// dies waits for the end of a killed process.
func dies(pidfd *os.File) bool {
	fds := []unix.PollFd{{Fd: int32(pidfd.Fd()), Events: unix.POLLIN}}
	for deadline := time.Now().Add(deathTimeout); ; {
		n, err := unix.Poll(fds, int(time.Until(deadline).Milliseconds()))
		if err != unix.EINTR || !time.Now().Before(deadline) {
			return n > 0
		}
	}
}

// Reap waits for a child of this process and reaps it, whatever its exit
// signal. A child that someone else has reaped is ECHILD.
func Reap(pidfd *os.File) (*unix.Siginfo, error) {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PIDFD, int(pidfd.Fd()), &info, unix.WEXITED|unix.WALL, nil)
		if err != syscall.EINTR {
			return &info, err
		}
	}
}
