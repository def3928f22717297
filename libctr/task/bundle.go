package task

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/typeurl/v2"
	"github.com/moby/sys/mountinfo"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/shimwire"
)

// Names in a bundle; see the package comment.
const (
	fileConfig    = "config.json"
	fileBootstrap = "bootstrap.json"
	fileAddress   = "address"
	fileBinary    = "shim-binary-path"
	fileLog       = "log"
	fileShimPID   = "shim.pid"
	fileInitPID   = "init.pid"
	fileSandbox   = "sandbox"
	fileMounts    = "mounts"
	dirRootfs     = "rootfs"
	linkWork      = "work"
)

// bundle is one task's directory and its work directory.
type bundle struct {
	ns, id string
	path   string // <state>/<ns>/<id>
	work   string // <root>/<ns>/<id>
	trash  *trash
	// activated says that mounts were made for it: one at a time works on them.
	activated bool

	group string // whose containers share a shim, "" for none; known once created or adopted
}

func (m *Manager) bundleOf(ns, id string) *bundle {
	return &bundle{ns: ns, id: id, trash: &m.trash,
		path: filepath.Join(m.cfg.State, ns, id), work: filepath.Join(m.cfg.Root, ns, id)}
}

// create makes the directories and writes the spec, which only a sandbox may lack. On
// failure nothing is left.
func (b *bundle) create(spec typeurl.Any, sandbox bool) (err error) {
	var raw []byte
	if spec != nil {
		raw = spec.GetValue()
	}
	if len(raw) == 0 && !sandbox {
		return errdefs.InvalidArgument("container %s has no spec", b.id)
	}
	for _, dir := range []string{filepath.Dir(b.path), filepath.Dir(b.work)} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return fmt.Errorf("make bundle: %w", err)
		}
	}
	if err := os.Mkdir(b.path, 0o700); err != nil {
		if errors.Is(err, os.ErrExist) {
			return errdefs.AlreadyExists("bundle %s exists", b.path)
		}
		return fmt.Errorf("make bundle: %w", err)
	}
	failpoint.Hit("libctr/task.bundle.directory")
	defer func() {
		if err != nil {
			err = errors.Join(err, b.remove(context.Background()))
		}
	}()
	return b.fill(raw)
}

func (b *bundle) fill(spec []byte) error {
	if err := os.Mkdir(filepath.Join(b.path, dirRootfs), 0o711); err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	var s brief
	if len(spec) > 0 {
		if err := json.Unmarshal(spec, &s); err != nil {
			return errdefs.InvalidArgument("spec of container %s: %w", b.id, err)
		}
	}
	b.group = shimwire.Group(s.Annotations)
	if err := b.openToContainerRoot(s.rootGID()); err != nil {
		return err
	}
	if err := os.RemoveAll(b.work); err != nil { // a stale one, of a boot before
		return fmt.Errorf("make bundle: %w", err)
	}
	if err := os.Mkdir(b.work, 0o711); err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	failpoint.Hit("libctr/task.bundle.work")
	if err := os.Symlink(b.work, filepath.Join(b.path, linkWork)); err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	if err := unix.Mkfifo(filepath.Join(b.path, fileLog), 0o600); err != nil {
		return fmt.Errorf("make bundle: mkfifo %s: %w", fileLog, err)
	}
	if len(spec) == 0 {
		return nil
	}
	if err := os.WriteFile(filepath.Join(b.path, fileConfig), spec, 0o644); err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	return nil
}

// openToContainerRoot lets the group that is the container's root in its user
// namespace pass through the bundle to its rootfs; others stay out.
func (b *bundle) openToContainerRoot(gid int) error {
	if gid == 0 {
		return nil
	}
	if err := os.Chown(b.path, -1, gid); err != nil {
		return fmt.Errorf("make bundle: %w", err)
	}
	return os.Chmod(b.path, 0o710)
}

// readGroup finds the group in a bundle that an earlier process has made.
func (b *bundle) readGroup() {
	raw, err := os.ReadFile(filepath.Join(b.path, fileConfig))
	if err != nil {
		return
	}
	var s brief
	if json.Unmarshal(raw, &s) == nil {
		b.group = shimwire.Group(s.Annotations)
	}
}

// brief is what the core itself reads in a runtime specification.
type brief struct {
	Annotations map[string]string `json:"annotations"`
	Linux       *struct {
		GIDMappings []specs.LinuxIDMapping `json:"gidMappings"`
	} `json:"linux"`
}

// rootGID returns the host's gid of the container's gid 0.
func (s brief) rootGID() int {
	if s.Linux == nil {
		return 0
	}
	for _, m := range s.Linux.GIDMappings {
		if m.ContainerID == 0 && m.Size > 0 {
			return int(m.HostID)
		}
	}
	return 0
}

// remove takes the bundle and its work directory away. Removing what is gone is no error.
func (b *bundle) remove(context.Context) error {
	hidden, err := b.hide()
	if err == nil && hidden != "" {
		err = b.trash.empty(hidden)
	}
	if err != nil {
		return fmt.Errorf("remove bundle: %w", err)
	}
	failpoint.Hit("libctr/task.bundle.removed")
	return nil
}

// hide unmounts what is mounted in the bundle, removes the work directory and moves the
// bundle into the trash: a crash from then on leaves nothing that looks like a task, and
// the id is free. "" is a bundle that is gone.
func (b *bundle) hide() (hidden string, err error) {
	if err := b.unmount(); err != nil {
		return "", err
	}
	failpoint.Hit("libctr/task.bundle.unmounted")
	if hidden, err = b.trash.take(b.path); err != nil {
		return "", err
	}
	failpoint.Hit("libctr/task.bundle.hidden")
	return hidden, os.RemoveAll(b.work)
}

// unmount detaches every mount below the bundle. An empty rootfs that can be
// removed has none, so that the usual case reads no mount table.
func (b *bundle) unmount() error {
	err := unix.Rmdir(filepath.Join(b.path, dirRootfs))
	if err == nil || errors.Is(err, unix.ENOENT) {
		return nil
	}
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(b.path))
	if err != nil {
		return fmt.Errorf("read mounts of bundle: %w", err)
	}
	for i := len(mounts) - 1; i >= 0; i-- { // the table lists parents first
		if mounts[i].Mountpoint == b.path || !strings.HasPrefix(mounts[i].Mountpoint, b.path+"/") {
			continue
		}
		if err := unix.Unmount(mounts[i].Mountpoint, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("unmount %s: %w", mounts[i].Mountpoint, err)
		}
	}
	return nil
}

// binary returns the path of the shim that was launched here, or "".
func (b *bundle) binary() string {
	data, err := os.ReadFile(filepath.Join(b.path, fileBinary))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// writeFile puts a small file into the bundle whole or not at all. It is not
// synced: a bundle does not outlive a boot.
func (b *bundle) writeFile(name string, data []byte) error {
	tmp := filepath.Join(b.path, "."+name)
	if err := os.WriteFile(tmp, data, 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(b.path, name))
}
