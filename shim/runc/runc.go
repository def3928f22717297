// Package runc runs containers with an OCI runtime's command line, runc's: the
// second implementation of what package process asks of a runtime. Here the
// root is mounted at <bundle>/rootfs in this mount namespace, as containerd's own
// shim does.
package runc

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/runtime/cgroup"
	"gantry/shim/process"
)

// Runtime is one binary with its global flags.
type Runtime struct {
	// Binary is a path or a name in PATH.
	Binary string
	// Root is the runtime's state directory.
	Root string
	// SystemdCgroup, NoPivot and NoNewKeyring are passed on.
	SystemdCgroup, NoPivot, NoNewKeyring bool
	// CriuWork is where CRIU works on a restore; "" is in the bundle.
	CriuWork string
}

var _ process.Runtime = (*Runtime)(nil)

// Container is one container of the runtime.
type Container struct {
	rt         *Runtime
	id, bundle string
	mounted    bool // the root is ours to unmount

	once sync.Once
	cg   *cgroup.Manager
	err  error
	pid  int
}

// Create implements process.Runtime.
func (r *Runtime) Create(ctx context.Context, o process.CreateOptions) (process.Container, process.Started, error) {
	return r.begin(ctx, o, "create")
}

// Restore implements process.Runtime.
func (r *Runtime) Restore(ctx context.Context, o process.CreateOptions, images string) (process.Container, process.Started, error) {
	return r.RestoreWith(ctx, o, images)
}

// RestoreWith is Restore with more flags.
func (r *Runtime) RestoreWith(ctx context.Context, o process.CreateOptions, images string, flags ...string) (process.Container, process.Started, error) {
	args := []string{"restore", "--detach", "--no-subreaper", "--image-path", images, "--work-path", cmp.Or(r.CriuWork, filepath.Join(o.Bundle, workDir))}
	return r.begin(ctx, o, append(args, flags...)...)
}

// workDir is where in the bundle CRIU puts its log and what it needs for a while.
const workDir = "criu-work"

// begin mounts the root and has the runtime make a container with a command and its flags.
func (r *Runtime) begin(ctx context.Context, o process.CreateOptions, args ...string) (_ process.Container, _ process.Started, err error) {
	c := &Container{rt: r, id: o.ID, bundle: o.Bundle, mounted: len(o.Rootfs) > 0}
	rootfs := filepath.Join(o.Bundle, "rootfs")
	if err := mountAll(rootfs, o.Rootfs); err != nil {
		return nil, process.Started{}, err
	}
	defer func() {
		if err != nil && c.mounted {
			err = errors.Join(err, unmountAll(rootfs))
		}
	}()
	args = append(args, "--bundle", o.Bundle)
	if r.NoPivot {
		args = append(args, "--no-pivot")
	}
	if r.NoNewKeyring && args[0] == "create" { // a restore makes none
		args = append(args, "--no-new-keyring")
	}
	started, err := c.launch(ctx, args, "init.pid", o.Terminal, o.Files.Stdin, o.Files.Stdout, o.Files.Stderr)
	if err != nil {
		return nil, process.Started{}, err
	}
	c.pid = started.Pid
	return c, started, nil
}

// Load implements process.Runtime; the runtime itself says later whether it
// knows the container.
func (r *Runtime) Load(id, bundle string) (process.Container, error) {
	return &Container{rt: r, id: id, bundle: bundle, mounted: true}, nil
}

// launch runs create or exec, whose process becomes our child when the runtime leaves.
func (c *Container) launch(ctx context.Context, args []string, pidName string, terminal bool, stdin, stdout, stderr *os.File) (s process.Started, err error) {
	pidFile := filepath.Join(c.bundle, pidName)
	args = append(args, "--pid-file", pidFile)
	var console *consoleSocket
	if terminal {
		if console, err = newConsoleSocket(); err != nil {
			return s, err
		}
		defer console.close()
		args = append(args, "--console-socket", console.path)
	}
	cmd := c.command(ctx, append(args, c.id)...)
	if !terminal {
		cmd.Stdin, cmd.Stdout, cmd.Stderr = file(stdin), file(stdout), file(stderr)
	}
	if err := c.run(cmd); err != nil {
		return s, fmt.Errorf("OCI runtime %s failed: %w", args[0], err) // containerd's words
	}
	if s.Pid, err = readPid(pidFile); err == nil && terminal {
		s.Console, err = console.receive(ctx)
	}
	if err != nil {
		c.takeBack(ctx, args[0], s.Pid)
	}
	return s, err
}

// takeBack ends what a runtime has made and its caller will not know of.
func (c *Container) takeBack(ctx context.Context, what string, pid int) {
	if what != "exec" {
		c.Do(context.WithoutCancel(ctx), "delete", "--force") //nolint:errcheck // the error before says more
	} else if pid > 0 {
		unix.Kill(pid, unix.SIGKILL) // our child, not reaped yet
	}
}

// file avoids a non-nil interface around a nil file.
func file(f *os.File) (i interface {
	Read([]byte) (int, error)
	Write([]byte) (int, error)
}) {
	if f != nil {
		return f
	}
	return nil
}

func readPid(path string) (int, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(raw)))
}

func (c *Container) command(ctx context.Context, args ...string) *exec.Cmd {
	global := []string{"--root", c.rt.Root, "--log", c.log(), "--log-format", "json"}
	if c.rt.SystemdCgroup {
		global = append(global, "--systemd-cgroup")
	}
	cmd := exec.CommandContext(ctx, c.rt.Binary, append(global, args...)...)
	cmd.WaitDelay = heldTimeout
	return cmd
}

// heldTimeout is how long what a runtime leaves running, such as a hook's
// descendant, may hold its error output open.
const heldTimeout = 2 * time.Second

func (c *Container) log() string { return filepath.Join(c.bundle, "log.json") }

// run runs a command that hands its files to the container; its failure has the
// text that the runtime logged last.
func (c *Container) run(cmd *exec.Cmd) error {
	before := size(c.log())
	err := cmd.Run()
	if err == nil || errors.Is(err, exec.ErrWaitDelay) { // held open, and ended well
		return nil
	}
	if text := lastError(c.log(), before); text != "" {
		return errors.New(text)
	}
	return fmt.Errorf("%s %s: %w", filepath.Base(c.rt.Binary), c.id, err)
}

// runAlone runs a command that starts nothing; what it prints serves as the text
// when it has logged none.
func (c *Container) runAlone(cmd *exec.Cmd) error {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	err := c.run(cmd)
	var exit *exec.ExitError
	if text := strings.TrimSpace(stderr.String()); text != "" && errors.As(err, &exit) {
		return errors.New(text)
	}
	return err
}

func size(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// lastError returns the last error of a runtime's log after an offset.
func lastError(path string, from int64) (text string) {
	raw, err := os.ReadFile(path)
	if err != nil || int64(len(raw)) < from {
		return ""
	}
	for line := range bytes.Lines(raw[from:]) {
		var entry struct{ Level, Msg string }
		if json.Unmarshal(line, &entry) == nil && (entry.Level == "error" || entry.Level == "fatal") {
			text = strings.TrimSpace(entry.Msg)
		}
	}
	return text
}

// Do calls the runtime with a command and its flags, to which the container's id is
// added. An error has the text of the runtime's own.
func (c *Container) Do(ctx context.Context, args ...string) error {
	return c.runAlone(c.command(ctx, append(args, c.id)...))
}

// Start implements process.Container.
func (c *Container) Start(ctx context.Context) error {
	if err := c.Do(ctx, "start"); err != nil {
		return fmt.Errorf("OCI runtime start failed: %w", err)
	}
	return nil
}

// Pause implements process.Container.
func (c *Container) Pause(ctx context.Context) error { return c.Do(ctx, "pause") }

// Resume implements process.Container.
func (c *Container) Resume(ctx context.Context) error { return c.Do(ctx, "resume") }

// Checkpoint implements process.Container.
func (c *Container) Checkpoint(ctx context.Context, o process.CheckpointOptions) error {
	return c.CheckpointWith(ctx, o)
}

// CheckpointWith is Checkpoint with more flags.
func (c *Container) CheckpointWith(ctx context.Context, o process.CheckpointOptions, flags ...string) error {
	if o.WorkPath == "" {
		o.WorkPath = filepath.Join(c.bundle, workDir)
	}
	return c.Do(ctx, append(o.Args(), flags...)...)
}

// Exec implements process.Container.
func (c *Container) Exec(ctx context.Context, o process.ExecOptions) (process.Started, error) {
	spec, err := json.Marshal(o.Spec)
	if err != nil {
		return process.Started{}, err
	}
	f, err := os.CreateTemp(c.bundle, "exec-process-") // goes with the bundle, should we die
	if err != nil {
		return process.Started{}, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.Write(spec); err != nil {
		return process.Started{}, err
	}
	pidName := o.ID + ".pid"
	defer os.Remove(filepath.Join(c.bundle, pidName))
	return c.launch(ctx, []string{"exec", "--detach", "--process", f.Name()}, pidName, o.Spec.Terminal, o.Files.Stdin, o.Files.Stdout, o.Files.Stderr)
}

// Kill implements process.Container.
func (c *Container) Kill(ctx context.Context, sig unix.Signal, all bool) error {
	args := []string{"kill"}
	if all {
		args = append(args, "--all")
	}
	err := c.runAlone(c.command(ctx, append(args, c.id, strconv.Itoa(int(sig)))...))
	if err != nil && gone(err) {
		return errdefs.WithClass(errdefs.ErrNotFound, err)
	}
	return err
}

// gone says whether an error of the command line means that there is no such
// container or process. Text is all that a runtime gives.
func gone(err error) bool {
	for _, text := range []string{"does not exist", "not running", "no such process", "process already finished"} {
		if strings.Contains(strings.ToLower(err.Error()), text) {
			return true
		}
	}
	return false
}

// Delete implements process.Container.
func (c *Container) Delete(ctx context.Context, force bool) error {
	args := []string{"delete"}
	if force {
		args = append(args, "--force")
	}
	err := c.Do(ctx, args...)
	if err != nil && gone(err) {
		err = nil
	}
	if c.mounted {
		err = errors.Join(err, unmountAll(filepath.Join(c.bundle, "rootfs")))
	}
	return err
}

// Pids implements process.Container.
func (c *Container) Pids() ([]int, error) {
	cg, err := c.cgroup()
	if err != nil {
		return nil, err
	}
	return cg.Pids()
}

// Update implements process.Container.
func (c *Container) Update(ctx context.Context, r *specs.LinuxResources) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	cmd := c.command(ctx, "update", "--resources", "-", c.id)
	cmd.Stdin = bytes.NewReader(raw)
	return c.runAlone(cmd)
}

// Stats implements process.Container.
func (c *Container) Stats() (*cgroup.Stats, error) {
	cg, err := c.cgroup()
	if err != nil {
		return nil, err
	}
	return cg.Stats()
}

// OOM implements process.Container.
func (c *Container) OOM() (<-chan struct{}, func(), error) {
	cg, err := c.cgroup()
	if err != nil {
		return nil, nil, err
	}
	return cg.OOM()
}

// OOMKilled implements process.Container.
func (c *Container) OOMKilled() (uint64, error) {
	cg, err := c.cgroup()
	if err != nil {
		return 0, err
	}
	return cg.OOMKilled()
}
