package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"gantry/runtime/checkpoint"
)

// checkpointCommand gives the command name, checkpoint or restore.
func checkpointCommand(name string) command {
	if name == "restore" {
		return restoreCommand
	}
	return dumpCommand
}

// criuFlags are shared by checkpoint and restore.
type criuFlags struct {
	checkpoint.Options
	emptyNS []string
}

func (c *criuFlags) declare(f *pflag.FlagSet) {
	f.StringVar(&c.ImagePath, "image-path", "", "directory of the images (default \"checkpoint\")")
	f.StringVar(&c.WorkPath, "work-path", "", "directory of the log and other working files")
	f.BoolVar(&c.TCPEstablished, "tcp-established", false, "keep open TCP connections")
	f.BoolVar(&c.ExtUnixSockets, "ext-unix-sk", false, "keep unix sockets that lead out of the container")
	f.BoolVar(&c.ShellJob, "shell-job", false, "the process belongs to the session of a terminal outside")
	f.BoolVar(&c.FileLocks, "file-locks", false, "keep file locks")
	f.StringVar(&c.CgroupsMode, "manage-cgroups-mode", "", "soft, full, strict or ignore")
	f.StringSliceVar(&c.emptyNS, "empty-ns", nil, "make a namespace and leave it empty: network, which always is")
	f.BoolVar(&c.AutoDedup, "auto-dedup", false, "remove from parent images what newer ones have")
	f.BoolVar(&c.LazyPages, "lazy-pages", false, "fetch memory over the network when it is needed")
}

// options are the flags' after a look at them. The network is not CRIU's: who made
// it makes it again.
func (c *criuFlags) options(r *request) (checkpoint.Options, error) {
	o := c.Options
	o.EmptyNS = unix.CLONE_NEWNET
	for _, ns := range c.emptyNS {
		if ns != "network" {
			return o, fmt.Errorf("namespace %q is not supported", ns)
		}
	}
	if o.ImagePath == "" {
		o.ImagePath = "checkpoint"
	}
	if os.Geteuid() != 0 {
		r.log.warn("checkpoint and restore are not tested without root")
	}
	return o, nil
}

type dumpFlags struct {
	common criuFlags
	checkpoint.DumpOptions
	pageServer string
	statusFD   int
	keep       bool
}

var dumpCommand = command{
	name: "checkpoint", args: "<container-id>", about: "checkpoint a running container", min: 1, max: 1,
	prepare: func(f *pflag.FlagSet) func(context.Context, *request, []string) error {
		var d dumpFlags
		d.declare(f)
		return func(ctx context.Context, r *request, args []string) error { return d.run(ctx, r, args[0]) }
	},
}

func (d *dumpFlags) declare(f *pflag.FlagSet) {
	d.common.declare(f)
	f.StringVar(&d.ParentPath, "parent-path", "", "an earlier pre-dump, relative to the images")
	f.BoolVar(&d.LeaveRunning, "leave-running", false, "let the container go on")
	f.BoolVar(&d.TCPSkipInFlight, "tcp-skip-in-flight", false, "drop TCP connections that are being made")
	f.BoolVar(&d.LinkRemap, "link-remap", false, "give removed files that are open a name for the time being")
	f.IntVar(&d.statusFD, "status-fd", -1, "descriptor to write a zero byte to once lazy pages are ready")
	f.StringVar(&d.pageServer, "page-server", "", "ADDRESS:PORT of the page server")
	f.BoolVar(&d.PreDump, "pre-dump", false, "write the memory only; the container goes on")
	f.BoolVar(&d.keep, "keep", false, "keep the stopped container instead of deleting it")
	f.MarkHidden("keep")
}

func (d *dumpFlags) run(ctx context.Context, r *request, id string) error {
	c, err := r.load(id)
	if err != nil {
		return err
	}
	if d.Options, err = d.common.options(r); err != nil {
		return err
	}
	if err := d.prepare(); err != nil {
		return err
	}
	if err := checkpoint.Dump(ctx, c, d.DumpOptions); err != nil {
		return err
	}
	if d.LeaveRunning || d.PreDump || d.keep {
		return nil
	}
	if err := c.Delete(context.WithoutCancel(ctx), true); err != nil {
		r.log.warn(err.Error())
	}
	return nil
}

// prepare looks at what has to be looked at and makes the image directory.
func (d *dumpFlags) prepare() error {
	if err := os.MkdirAll(d.ImagePath, 0o700); err != nil {
		return err
	}
	if err := checkParent(d.ImagePath, d.ParentPath); err != nil {
		return err
	}
	var err error
	if d.PageServer, err = pageServer(d.pageServer); err != nil {
		return err
	}
	if d.LazyPages && d.statusFD != -1 {
		d.StatusReady, err = statusReady(d.statusFD)
	}
	return err
}

func checkParent(images, parent string) error {
	if parent == "" {
		return nil
	}
	if filepath.IsAbs(parent) {
		return errors.New("--parent-path must be relative")
	}
	full := filepath.Join(images, parent)
	st, err := os.Stat(full)
	if err == nil && !st.IsDir() {
		err = &os.PathError{Op: "stat", Path: full, Err: unix.ENOTDIR}
	}
	if err != nil {
		return fmt.Errorf("invalid --parent-path: %w", err)
	}
	return nil
}

func pageServer(s string) (*checkpoint.PageServer, error) {
	if s == "" {
		return nil, nil
	}
	address, port, err := net.SplitHostPort(s)
	if err != nil || address == "" || port == "" {
		return nil, errors.New("use --page-server ADDRESS:PORT to specify page server")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("--page-server: invalid port number %q", port)
	}
	return &checkpoint.PageServer{Address: address, Port: uint16(n)}, nil
}

// statusReady writes to an inherited descriptor, which then goes.
func statusReady(fd int) (func(), error) {
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return nil, fmt.Errorf("invalid --status-fd argument %d: %w", fd, err)
	}
	if flags&unix.O_ACCMODE == unix.O_RDONLY {
		return nil, fmt.Errorf("invalid --status-fd argument %d: not writable", fd)
	}
	unix.CloseOnExec(fd)
	return func() {
		unix.Write(fd, []byte{0})
		unix.Close(fd)
	}, nil
}
