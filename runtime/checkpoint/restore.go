package checkpoint

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"github.com/checkpoint-restore/go-criu/v8/rpc"

	"gantry/runtime/container"
)

// Restore makes a container whose processes come from the image directory; they run
// when it returns, and the init is a child of ours. With process.terminal its master
// is the container's Console. When it fails nothing is left behind but the log.
func Restore(ctx context.Context, co container.CreateOptions, o RestoreOptions) (*container.Container, error) {
	v, err := version(ctx)
	if err != nil {
		return nil, err
	}
	if err := o.check(v); err != nil {
		return nil, err
	}
	dirs, err := o.open(false)
	if err != nil {
		return nil, err
	}
	defer dirs.close()
	return container.Revive(ctx, co, func(ctx context.Context, r *container.Revival) error {
		re := &restore{RestoreOptions: o, Revival: r, version: v, dirs: dirs}
		return re.run(ctx)
	})
}

func (o *RestoreOptions) check(version int) error {
	if err := atLeast(version, versionRPC); err != nil {
		return err
	}
	for flag, value := range map[string]string{"--lsm-profile": o.LSMProfile, "--lsm-mount-context": o.LSMMountContext} {
		if value != "" && version < versionLSM {
			return fmt.Errorf("%s requires at least CRIU 3.16", flag)
		}
	}
	return nil
}

// restore is a Restore under way.
type restore struct {
	RestoreOptions
	*container.Revival
	version int
	dirs    directories
}

// firstFile is the descriptor, in criu, of the first file after its socket.
const firstFile = 4

func (r *restore) run(ctx context.Context) error {
	ns, err := restoreNamespaces(r.Spec(), r.version, firstFile)
	if err != nil {
		return err
	}
	defer ns.close()
	opts, err := r.request(ns)
	if err != nil {
		return err
	}
	if err := admit(r.dirs.images, r.Spec()); err != nil {
		return err
	}
	if err := r.MakeMountPoints(ctx); err != nil {
		return fmt.Errorf("make mount points: %w", err)
	}
	criu, dirs, err := r.start(ctx, ns.files, opts)
	if err != nil {
		return err
	}
	defer dirs.close()
	req := &rpc.CriuReq{Type: ptr(rpc.CriuReqType_RESTORE), Opts: opts}
	_, err = criu.ask(ctx, req, func(script string, pid int, file *os.File) error { return r.heed(ctx, script, pid, file) })
	if err != nil {
		return explain(err, r.dirs.log(restoreLog))
	}
	return nil
}

// start runs criu where the container is to be, and tells it which cgroups those
// are. It mounts in its working directory, which must be of its own mount namespace.
func (r *restore) start(ctx context.Context, files []*os.File, o *rpc.CriuOpts) (_ *swrk, dirs directories, err error) {
	path, err := exec.LookPath(programName)
	if err != nil {
		return nil, dirs, err
	}
	paths, err := r.dirs.paths()
	if err != nil {
		return nil, dirs, err
	}
	conn, theirs, err := socketPair()
	if err != nil {
		return nil, dirs, err
	}
	defer theirs.Close()
	proc, there, err := r.Run(ctx, container.Reviver{Path: path, Args: swrkArgs, Files: append([]*os.File{theirs}, files...), Dirs: paths})
	if err != nil {
		conn.Close()
		return nil, dirs, err
	}
	dirs = elsewhere(there)
	dirs.name(o)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", proc.Pid))
	if err != nil {
		conn.Close()
		dirs.close()
		proc.Abort()
		return nil, dirs, fmt.Errorf("cgroup of criu: %w", err)
	}
	o.CgRoot = cgroupRoots(b)
	criu, err := adopt(conn, proc)
	if err != nil {
		dirs.close()
	}
	return criu, dirs, err
}

// cgroupRoots turns /proc/<pid>/cgroup into where the restored cgroups are to be.
func cgroupRoots(b []byte) (list []*rpc.CgroupRoot) {
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		parts := strings.SplitN(s.Text(), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, controller := range strings.Split(parts[1], ",") {
			list = append(list, &rpc.CgroupRoot{Ctrl: ptr(controller), Path: ptr(parts[2])})
		}
	}
	return list
}

func (r *restore) request(ns given) (*rpc.CriuOpts, error) {
	o, err := r.Options.request()
	if err != nil {
		return nil, err
	}
	o.LogFile = ptr(restoreLog)
	o.EvasiveDevices = ptr(true)
	o.RstSibling = ptr(true)
	o.Root = ptr(r.Place())
	if r.LSMProfile != "" {
		o.LsmProfile = &r.LSMProfile
	}
	if r.LSMMountContext != "" {
		o.LsmMountContext = &r.LSMMountContext
	}
	configFile(o, r.Spec().Annotations)
	o.InheritFd, o.JoinNs = ns.inherit, ns.join
	places, err := loadPlaces(r.ImagePath)
	if err != nil {
		return nil, err
	}
	if o.ExtMnt, err = restoreMounts(r.Spec(), r.ShownCgroups(), places.known(stored(r.Spec().Root.Path))); err != nil {
		return nil, err
	}
	pipes, err := r.pipes()
	if err != nil {
		return nil, err
	}
	o.InheritFd = append(o.InheritFd, pipes...)
	r.lockNetwork(o, r.version)
	return o, nil
}

// pipes gives our standard descriptors for those that were pipes at the dump.
func (r *restore) pipes() (list []*rpc.InheritFd, err error) {
	var names []string
	if err := readNote(r.ImagePath, descriptorsName, &names); err != nil {
		return nil, err
	}
	for i, n := range names[:min(3, len(names))] {
		if strings.HasPrefix(n, "pipe:") {
			list = append(list, &rpc.InheritFd{Key: ptr(n), Fd: ptr(int32(i))})
		}
	}
	return list, nil
}

// heed does our part at each step of a restore.
func (r *restore) heed(ctx context.Context, script string, pid int, file *os.File) error {
	switch {
	case script == "orphan-pts-master" && file != nil:
		r.SetConsole(file)
		return nil
	case script == "setup-namespaces":
		return r.Hooks(ctx, pid)
	case script == "post-restore":
		return r.Born(pid, r.version >= versionTimeNS && hasTimeNamespaces())
	}
	closeFile(file)
	return nil
}

func hasTimeNamespaces() bool {
	_, err := os.Stat("/proc/self/ns/time")
	return err == nil
}
