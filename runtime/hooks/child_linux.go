package hooks

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// child is a running hook, leader of its process group.
type child struct {
	pid   int
	pidfd *os.File
	reap  func() error // nil when it ended well
}

// wait blocks until the hook has ended. The end of ctx kills its group. The
// group's number is safe to use because the leader is reaped last.
func (c child) wait(ctx context.Context) error {
	defer c.pidfd.Close()
	ended := make(chan struct{})
	go func() { // ends with the hook
		defer close(ended)
		for unix.Waitid(unix.P_PIDFD, int(c.pidfd.Fd()), nil, unix.WEXITED|unix.WNOWAIT|unix.WALL, nil) == unix.EINTR {
		}
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		unix.Kill(-c.pid, unix.SIGKILL)
		unix.PidfdSendSignal(int(c.pidfd.Fd()), unix.SIGKILL, nil, 0) // in case it left its group
		<-ended
		c.reap()
		return ctx.Err()
	}
	return c.reap()
}

func spawnHere(h specs.Hook, io *stdio, o Options) (child, error) {
	pidfd := -1
	cmd := exec.Cmd{
		Path: h.Path, Args: h.Args, Env: h.Env, Dir: o.Dir,
		Stdin: io.in, Stdout: io.out, Stderr: io.out,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, PidFD: &pidfd},
	}
	if err := cmd.Start(); err != nil {
		return child{}, err
	}
	return child{cmd.Process.Pid, os.NewFile(uintptr(pidfd), "pidfd"), cmd.Wait}, nil
}

// spawnInside runs the hook as a program: parent and child agree before execve,
// so that an error of a join or of execve itself is known with its name.
func spawnInside(ctx context.Context, h specs.Hook, io *stdio, o Options) (child, error) {
	files := map[string]*os.File{"init": o.Namespaces.Init, "stdin": io.in, "stdout": io.out}
	proc, err := program.Start(Compile(h, o), files)
	if err != nil {
		return child{}, err
	}
	if err := hear(ctx, proc); err != nil {
		proc.Abort()
		return child{}, err
	}
	proc.Release()
	return child{proc.Pid, proc.PidFD, func() error { return reap(proc.Pid) }}, nil
}

// hear waits for execve; before it the hook may have become another process.
func hear(ctx context.Context, proc *program.Process) error {
	for {
		ev, err := proc.Next(ctx)
		if err != nil || ev.Kind != program.Asked {
			return err
		}
		if err := errors.Join(proc.Adopt(), proc.Answer()); err != nil {
			return err
		}
	}
}

// Compile is the program of a hook in a container's namespaces. Its inputs are
// "init", "stdin" and "stdout".
func Compile(h specs.Hook, o Options) *program.Program {
	p, ns := program.New(), o.Namespaces
	p.Label("prepare hook")
	init, stdin, stdout := p.Input("init"), p.Input("stdin"), p.Input("stdout")
	flags, fork := ns.Flags, false
	switch {
	case flags&unix.CLONE_NEWPID == 0:
	case ns.Unprivileged: // only root of its user namespace may join it, and only for children
		fork = true
	default:
		p.Clone.PidNS = init
		flags &^= unix.CLONE_NEWPID
	}
	p.Keep(3, init, stdin, stdout)
	p.SignalDefaults()
	p.Dup(stdin, 0)
	p.Dup(stdout, 1)
	p.Dup(stdout, 2)
	if flags != 0 {
		p.Label("join the container's namespaces")
		p.SetNS(init, flags)
	}
	if flags&unix.CLONE_NEWUSER != 0 {
		becomeRoot(p)
	}
	if fork {
		p.Label("clone into pid namespace")
		p.ForkOn(0)
		p.Ask(askChild)
	}
	p.Call("setpgid", unix.SYS_SETPGID, program.Num(0), program.Num(0))
	if o.Dir != "" {
		p.Label("change to %s", o.Dir)
		p.Call("chdir", unix.SYS_CHDIR, program.Str(o.Dir))
	}
	p.Label("run %s", h.Path)
	exe := p.Address("exe", h.Path)
	p.CloseAllBut(3)
	p.Execve(exe, h.Args, h.Env)
	return p
}

const askChild = 'p' // adopt the clone

// becomeRoot takes the ids of a user namespace's root: ours mean nothing in it.
func becomeRoot(p *program.Program) {
	p.Label("become root of the user namespace")
	zero := program.Num(0)
	p.Call("setresgid", unix.SYS_SETRESGID, zero, zero, zero)
	p.Call("setresuid", unix.SYS_SETRESUID, zero, zero, zero)
	p.Call("setgroups", unix.SYS_SETGROUPS, zero, zero).Tolerate(unix.EPERM)
}

// reap takes the end of a child that is still to be waited for.
func reap(pid int) error {
	var ws unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &ws, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		break
	}
	switch {
	case ws.Signaled():
		return fmt.Errorf("signal: %v", ws.Signal())
	case ws.ExitStatus() != 0:
		return fmt.Errorf("exit status %d", ws.ExitStatus())
	}
	return nil
}
