package main

import (
	"context"
	"errors"
	"fmt"
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
	consoleSocket, pidfdSocket, pidFile   string
	process, cwd, user, label, apparmor   string
	env, caps, cgroups                    []string
	groups                                []uint
	tty, detach, noNewPrivs, ignorePaused bool
	preserveFDs                           int
	set                                   func(flag string) bool
}

func (o *execFlags) declare(f *pflag.FlagSet) {
	f.StringVar(&o.consoleSocket, "console-socket", "", "unix socket that gets the terminal's master")
	f.StringVar(&o.pidfdSocket, "pidfd-socket", "", "unix socket that gets a descriptor of the process")
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
	f.StringArrayVar(&o.cgroups, "cgroup", nil, "run it in a cgroup below the container's, which exists: [controller[,controller...]:]path")
	f.BoolVar(&o.ignorePaused, "ignore-paused", false, "also in a paused container, where it waits for the container's resume")
	o.set = f.Changed
}

var execCommand = command{
	name: "exec", args: "<container-id> <command> [command options]  || -p process.json <container-id>", about: "run a further process in a container", min: 1, max: -1, strict: true,
	text: "The process is that of a file, or it takes after the one in the bundle's config.json,\nwith the command and what the flags say in place of its own.",
	prepare: func(f *pflag.FlagSet) func(context.Context, *request, []string) error {
		var o execFlags
		o.declare(f)
		return func(ctx context.Context, r *request, args []string) error {
			err := o.run(ctx, r, args)
			var status exitStatus
			if err != nil && !errors.As(err, &status) {
				return failure{execFailed, fmt.Errorf("exec failed: %w", err)}
			}
			return err
		}
	},
}

// execFailed is the exit status of an exec whose process did not come to be.
const execFailed = 255

func (o *execFlags) run(ctx context.Context, r *request, args []string) error {
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
	if o.process == "" && len(args) < 2 {
		return errors.New("exec args cannot be empty")
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
	var spec struct{ Process *specs.Process }
	if err := readJSON(filepath.Join(bundle, configName), nil, &spec); err != nil {
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
	sets := []*[]string{&p.Capabilities.Bounding, &p.Capabilities.Effective, &p.Capabilities.Permitted}
	if p.Capabilities.Inheritable != nil { // else none can be ambient
		sets = append(sets, &p.Capabilities.Ambient)
	}
	for _, set := range sets {
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
	files, err := preserved(0, o.preserveFDs)
	if err != nil {
		return err
	}
	opts := container.ExecOptions{Process: p, ExtraFiles: files, Warn: r.log.warn, IgnorePaused: o.ignorePaused}
	if opts.Cgroup, err = subCgroups(o.cgroups); err != nil {
		return err
	}
	console, err := dial(o.consoleSocket)
	if err != nil {
		return err
	}
	defer closeConn(console)
	pidfd, err := dial(o.pidfdSocket)
	if err != nil {
		return err
	}
	defer closeConn(pidfd)
	made := func(proc *container.Process) error {
		return errors.Join(send(pidfd, "setns", proc.PidFD), writePid(o.pidFile, proc.Pid))
	}
	if !o.detach {
		return foregroundExec(ctx, r, c, opts, made)
	}
	io := r.inherited()
	opts.Stdin, opts.Stdout, opts.Stderr = io.in, io.out, io.err
	proc, err := c.Exec(ctx, opts)
	if err != nil {
		return execError(err)
	}
	defer closeFile(proc.Console)
	if err = errors.Join(sendConsole(console, proc.Console), made(proc)); err != nil {
		killProcess(proc.PidFD)
	}
	return err
}

// foregroundExec waits for the process; made is told of it once it exists.
func foregroundExec(ctx context.Context, r *request, c *container.Container, opts container.ExecOptions, made func(*container.Process) error) error {
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
	if err := errors.Join(f.attach(proc.Console), made(proc)); err != nil {
		killProcess(proc.PidFD)
		f.wait(proc.Pid, proc.PidFD)
		return err
	}
	return exited(f.wait(proc.Pid, proc.PidFD))
}

func execError(err error) error { return fmt.Errorf("unable to start container process: %w", err) }

// subCgroups reads the values of --cgroup: paths by controller, or one path for all
// under "". "/" is the container's own cgroup and no other.
func subCgroups(values []string) (map[string]string, error) {
	paths := map[string]string{}
	for _, v := range values {
		controllers, path, by := strings.Cut(v, ":")
		if !by {
			if len(values) != 1 {
				return nil, fmt.Errorf("invalid --cgroup argument: %s (missing <controller>: prefix)", v)
			}
			return map[string]string{"": v}, nil
		}
		for name := range strings.SplitSeq(controllers, ",") {
			if name == "" {
				return nil, fmt.Errorf("invalid --cgroup argument: %s (empty <controller> prefix)", v)
			}
			if _, twice := paths[name]; twice {
				return nil, fmt.Errorf("invalid --cgroup argument(s): controller %s specified multiple times", name)
			}
			paths[name] = path
		}
	}
	return paths, nil
}
