package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"gantry/runtime/container"
	"gantry/runtime/validate"
)

type execFlags struct {
	consoleSocket, pidFile, process, cwd, user string
	label, apparmor, cgroup                    string
	env, caps                                  []string
	groups                                     []uint
	tty, detach, noNewPrivs, ignorePaused      bool
	preserveFDs                                int
	set                                        func(flag string) bool
}

func (o *execFlags) declare(f *pflag.FlagSet) {
	f.StringVar(&o.consoleSocket, "console-socket", "", "unix socket that gets the terminal's master")
	f.StringVar(&o.cwd, "cwd", "", "working directory in the container")
	f.StringArrayVarP(&o.env, "env", "e", nil, "set a variable, NAME=VALUE")
	f.BoolVarP(&o.tty, "tty", "t", false, "give it a terminal")
	f.StringVarP(&o.user, "user", "u", "", "uid[:gid]")
	f.UintSliceVarP(&o.groups, "additional-gids", "g", nil, "additional group ids")
	f.StringVarP(&o.process, "process", "p", "", "file of the process, as the spec's process is")
	f.BoolVarP(&o.detach, "detach", "d", false, "don't wait for the process")
	f.StringVar(&o.pidFile, "pid-file", "", "file to write the process id to")
	f.StringVar(&o.label, "process-label", "", "SELinux label")
	f.StringVar(&o.apparmor, "apparmor", "", "AppArmor profile")
	f.BoolVar(&o.noNewPrivs, "no-new-privs", false, "no new privileges")
	f.StringArrayVarP(&o.caps, "cap", "c", nil, "add a capability")
	f.IntVar(&o.preserveFDs, "preserve-fds", 0, "hand N more descriptors to the process, from 3 up")
	f.StringVar(&o.cgroup, "cgroup", "", "not implemented")
	f.BoolVar(&o.ignorePaused, "ignore-paused", false, "also in a paused container")
	o.set = f.Changed
}

var execCommand = command{
	name: "exec", args: "<container-id> <command> [argument...]", about: "run a further process in a container", min: 1, max: -1, strict: true,
	prepare: func(f *pflag.FlagSet) func(context.Context, *request, []string) error {
		var o execFlags
		o.declare(f)
		return func(ctx context.Context, r *request, args []string) error {
			err := o.run(ctx, r, args)
			var status exitStatus
			if err != nil && !errors.As(err, &status) {
				return fmt.Errorf("exec failed: %w", err)
			}
			return err
		}
	},
}

func (o *execFlags) run(ctx context.Context, r *request, args []string) error {
	if o.cgroup != "" && o.cgroup != "/" {
		return errors.New("--cgroup is not implemented")
	}
	if o.process == "" && len(args) < 2 {
		return errors.New("process args cannot be empty")
	}
	c, err := r.load(args[0])
	if err != nil {
		return err
	}
	st, err := c.State()
	if err != nil {
		return err
	}
	if err := o.allowed(st.Status); err != nil {
		return err
	}
	p, err := o.build(st.Bundle, args[1:])
	if err != nil {
		return err
	}
	if err := validate.Process(p); err != nil {
		return err
	}
	if err := checkConsole(p.Terminal, o.detach, o.consoleSocket); err != nil {
		return err
	}
	return o.launch(ctx, r, c, p)
}

func (o *execFlags) allowed(status specs.ContainerState) error {
	switch {
	case status == specs.StateStopped:
		return errors.New("cannot exec in a stopped container")
	case status == statePaused && !o.ignorePaused:
		return errors.New("cannot exec in a paused container (use --ignore-paused to override)")
	}
	return nil
}

// build gives the process: that of a file, or the container's own with another
// command and what the flags change.
func (o *execFlags) build(bundle string, args []string) (*specs.Process, error) {
	if o.process != "" {
		p := &specs.Process{}
		return p, readJSON(o.process, nil, p)
	}
	spec := &specs.Spec{}
	if err := readJSON(filepath.Join(bundle, configName), nil, spec); err != nil {
		return nil, err
	}
	if spec.Process == nil {
		return nil, errors.New("the container has no process to take after")
	}
	return spec.Process, o.change(spec.Process, args)
}

func (o *execFlags) change(p *specs.Process, args []string) error {
	p.Args, p.Terminal = args, o.tty
	p.Env = append(p.Env, o.env...)
	for flag, to := range map[string]struct {
		field *string
		value string
	}{"cwd": {&p.Cwd, o.cwd}, "apparmor": {&p.ApparmorProfile, o.apparmor}, "process-label": {&p.SelinuxLabel, o.label}} {
		if o.set(flag) {
			*to.field = to.value
		}
	}
	if o.set("no-new-privs") {
		p.NoNewPrivileges = o.noNewPrivs
	}
	o.addCapabilities(p)
	for _, g := range o.groups {
		if g > 1<<32-1 {
			return fmt.Errorf("--additional-gids: %d is no group id", g)
		}
		p.User.AdditionalGids = append(p.User.AdditionalGids, uint32(g))
	}
	return setUser(&p.User, o.user)
}

func (o *execFlags) addCapabilities(p *specs.Process) {
	if len(o.caps) == 0 {
		return
	}
	if p.Capabilities == nil {
		p.Capabilities = &specs.LinuxCapabilities{}
	}
	for _, set := range []*[]string{&p.Capabilities.Bounding, &p.Capabilities.Effective, &p.Capabilities.Permitted} {
		for _, name := range o.caps {
			if !slices.Contains(*set, name) {
				*set = append(*set, name)
			}
		}
	}
}

// setUser reads uid[:gid]; "" changes nothing.
func setUser(u *specs.User, text string) error {
	if text == "" {
		return nil
	}
	uid, gid, both := strings.Cut(text, ":")
	n, err := strconv.ParseUint(uid, 10, 32)
	if err != nil {
		return fmt.Errorf("--user: %q is no user id", uid)
	}
	u.UID = uint32(n)
	if both {
		if n, err = strconv.ParseUint(gid, 10, 32); err != nil {
			return fmt.Errorf("--user: %q is no group id", gid)
		}
		u.GID = uint32(n)
	}
	return nil
}

func (o *execFlags) launch(ctx context.Context, r *request, c *container.Container, p *specs.Process) error {
	files, env, err := preservedFiles(o.preserveFDs)
	if err != nil {
		return err
	}
	p.Env = append(p.Env, env...)
	opts := container.ExecOptions{Process: p, ExtraFiles: files, Warn: r.log.warn}
	if o.detach {
		io := r.inherited()
		opts.Stdin, opts.Stdout, opts.Stderr = io.in, io.out, io.err
		return o.background(ctx, c, opts)
	}
	f, err := newForeground(r)
	if err != nil {
		return err
	}
	defer f.close()
	opts.Stdin, opts.Stdout, opts.Stderr = f.theirs.in, f.theirs.out, f.theirs.err
	opts.Console = keepLineEnds
	proc, err := c.Exec(ctx, opts)
	if err != nil {
		return execError(err)
	}
	err = errors.Join(f.attach(proc.Console), writePid(o.pidFile, proc.Pid))
	if err != nil {
		killProcess(proc.PidFD)
		f.wait(proc.Pid, proc.PidFD)
		return err
	}
	return exited(f.wait(proc.Pid, proc.PidFD))
}

func (o *execFlags) background(ctx context.Context, c *container.Container, opts container.ExecOptions) (err error) {
	var conn *net.UnixConn
	if o.consoleSocket != "" {
		if conn, err = dialConsole(o.consoleSocket); err != nil {
			return err
		}
		defer conn.Close()
	}
	proc, err := c.Exec(ctx, opts)
	if err != nil {
		return execError(err)
	}
	defer closeFile(proc.Console)
	if conn != nil {
		err = sendConsole(conn, proc.Console)
	}
	if err == nil {
		err = writePid(o.pidFile, proc.Pid)
	}
	if err != nil {
		killProcess(proc.PidFD)
	}
	return err
}

func execError(err error) error { return fmt.Errorf("unable to start container process: %w", err) }
