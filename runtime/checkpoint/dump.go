package checkpoint

import (
	"context"
	"fmt"
	"os"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/container"
)

const (
	dumpLog         = "dump.log"
	restoreLog      = "restore.log"
	descriptorsName = "descriptors.json"
	placesName      = "mounts.json"
)

// Dump writes the container's processes to files, and ends them unless the options
// let them go on. The container itself stays, to be deleted. One that does not run
// is errdefs.ErrFailedPrecondition.
func Dump(ctx context.Context, c *container.Container, o DumpOptions) error {
	if err := canDump(c); err != nil {
		return err
	}
	v, err := version(ctx)
	if err != nil {
		return err
	}
	want := versionRPC
	if o.StatusReady != nil {
		want = versionNotifies
	}
	if err := atLeast(v, want); err != nil {
		return err
	}
	if err := checkFeatures(ctx, o.PreDump, o.LazyPages); err != nil {
		return err
	}
	d := &dump{DumpOptions: o, c: c, version: v}
	defer d.close()
	return d.run(ctx)
}

// canDump has runc's words.
func canDump(c *container.Container) error {
	s, err := c.State()
	if err != nil {
		return err
	}
	switch s.Status {
	case specs.StateRunning, container.StatePaused:
		return nil
	}
	return fmt.Errorf("Container cannot be checkpointed in %s state: %w", s.Status, errdefs.ErrFailedPrecondition) //nolint:staticcheck // runc's words
}

// dump is a Dump under way.
type dump struct {
	DumpOptions
	c       *container.Container
	version int
	dirs    directories
}

func (d *dump) close() { d.dirs.close() }

func (d *dump) run(ctx context.Context) (err error) {
	if d.dirs, err = d.Options.open(true); err != nil {
		return err
	}
	opts, err := d.request()
	if err != nil {
		return err
	}
	kind := rpc.CriuReqType_DUMP
	if d.PreDump {
		kind = rpc.CriuReqType_PRE_DUMP
	} else if err := d.whole(opts); err != nil {
		return err
	}
	criu, err := start()
	if err != nil {
		return err
	}
	if _, err := criu.ask(ctx, &rpc.CriuReq{Type: &kind, Opts: opts}, d.heed); err != nil {
		return explain(err, d.dirs.log(dumpLog))
	}
	return nil
}

// heed has nothing to do at most steps of a dump.
func (d *dump) heed(script string, _ int, file *os.File) error {
	closeFile(file)
	if script == "status-ready" && d.StatusReady != nil {
		d.StatusReady()
	}
	return nil
}

// request is what a pre-dump and a dump ask for.
func (d *dump) request() (*rpc.CriuOpts, error) {
	o, err := d.Options.request()
	if err != nil {
		return nil, err
	}
	d.dirs.name(o)
	o.LogFile = ptr(dumpLog)
	o.Root = ptr(d.c.Rootfs())
	o.Pid = ptr(int32(d.c.Pid()))
	o.LeaveRunning = &d.LeaveRunning
	o.TcpSkipInFlight = &d.TCPSkipInFlight
	o.LinkRemap = &d.LinkRemap
	configFile(o, d.c.Spec().Annotations)
	if o.External, err = dumpNamespaces(d.c.Spec(), d.version); err != nil {
		return nil, err
	}
	if err := d.freezer(o); err != nil {
		return nil, err
	}
	if p := d.PageServer; p != nil {
		o.Ps = &rpc.CriuPageServerInfo{Address: &p.Address, Port: ptr(int32(p.Port))}
	}
	if d.ParentPath != "" {
		o.ParentImg = &d.ParentPath
	}
	if d.ParentPath != "" || d.PreDump {
		o.TrackMem = ptr(true)
	}
	d.lockNetwork(o, d.version)
	return o, nil
}

// freezer lets CRIU stop the processes by their cgroup instead of one by one.
func (d *dump) freezer(o *rpc.CriuOpts) error {
	if d.version < versionFreezeV2 {
		return nil
	}
	path, err := d.c.FreezerPath()
	if err == nil && path != "" {
		o.FreezeCgroup = &path
	}
	return err
}

// whole adds what only a dump of everything wants, and notes in the image directory
// what stdio was.
func (d *dump) whole(o *rpc.CriuOpts) error {
	shown, err := d.c.ShownCgroups()
	if err != nil {
		return err
	}
	fd, err := unix.Open(fmt.Sprintf("/proc/%d/root", d.c.Pid()), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open the container's root: %w", err)
	}
	root := os.NewFile(uintptr(fd), "/")
	defer root.Close()
	places := places{}
	if o.ExtMnt, err = dumpMounts(d.c.Spec(), shown, places.note(running(root))); err != nil {
		return err
	}
	if err := writeNote(d.ImagePath, placesName, places); err != nil {
		return err
	}
	o.ExtMnt = append(o.ExtMnt, maskedFiles(d.c.Spec(), root)...)
	return writeNote(d.ImagePath, descriptorsName, append([]string{}, d.c.Descriptors()...))
}
