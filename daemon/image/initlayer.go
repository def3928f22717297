package image

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/daemon/rootfs"
	"gantry/libctr/core/mount"
)

// initPrefix begins the names of init layers; an image's chain id follows. An init layer
// lies between the layers of an image and those of its containers, which share it: it has
// what the engine mounts things on, and what programs know a container by, so that none of
// this counts as the container's own in its changes, its size or an image made of it. The
// number is of what is in it.
const initPrefix = "gantry-init-1:"

// labelRefInit keeps an init layer as long as the image's config.
const labelRefInit = "/init" // after labelRefSnapshot and the snapshotter's name

// initFile is a file of the init layer, made where the image has nothing.
type initFile struct {
	name string
	mode uint32 // with the type
	link string // where a link leads to
}

// initFiles are those of dockerd's.
var initFiles = []initFile{
	{name: "/.dockerenv", mode: unix.S_IFREG | 0o755},
	{name: "/dev/console", mode: unix.S_IFREG | 0o755},
	{name: "/dev/pts", mode: unix.S_IFDIR | 0o755},
	{name: "/dev/shm", mode: unix.S_IFDIR | 0o755},
	{name: "/etc/hostname", mode: unix.S_IFREG | 0o755},
	{name: "/etc/hosts", mode: unix.S_IFREG | 0o755},
	{name: "/etc/mtab", mode: unix.S_IFLNK, link: "/proc/mounts"},
	{name: "/etc/resolv.conf", mode: unix.S_IFREG | 0o755},
	{name: "/proc", mode: unix.S_IFDIR | 0o755},
	{name: "/sys", mode: unix.S_IFDIR | 0o755},
}

func initName(chain string) string { return initPrefix + chain }

func isInit(name string) bool { return strings.HasPrefix(name, "gantry-init-") }

// makeInit makes the init layer of an image's layers unless it is there, and returns its
// name. ctx must be under a lease.
func (s *Service) makeInit(ctx context.Context, chain string) (string, error) {
	name := initName(chain)
	unlock, err := s.inits.Lock(ctx, name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if there, err := s.takeSnapshot(ctx, name); there || err != nil {
		return name, err
	}
	key := fmt.Sprintf(extractPrefix+"%d-%s %s", time.Now().Nanosecond(), rand.Text()[:4], name)
	mounts, err := s.Snapshots.Prepare(ctx, key, chain, nil)
	if err != nil {
		return "", fmt.Errorf("prepare init layer: %w", err)
	}
	failpoint.Hit("daemon/image.init.prepared")
	if err := s.fillInit(ctx, name, key, mounts); err != nil {
		s.dropSnapshot(ctx, key)
		return "", fmt.Errorf("make init layer: %w", err)
	}
	return name, nil
}

func (s *Service) fillInit(ctx context.Context, name, key string, mounts []mount.Mount) error {
	if err := writeInit(mounts); err != nil {
		return err
	}
	failpoint.Hit("daemon/image.init.filled")
	err := s.Snapshots.Commit(ctx, name, key, nil)
	failpoint.Hit("daemon/image.init.committed")
	if errdefs.IsAlreadyExists(err) { // another engine on the same core made it
		s.dropSnapshot(ctx, key)
		return s.holdSnapshot(ctx, name)
	}
	return err
}

func writeInit(mounts []mount.Mount) error {
	root, err := rootfs.OpenWritable(mounts)
	if err != nil {
		return err
	}
	defer root.Close()
	for _, f := range initFiles {
		if err := f.make(root); err != nil {
			return fmt.Errorf("make %s: %w", f.name, err)
		}
	}
	return nil
}

// make leaves alone what is there, and what an image with a file in the place of a
// directory has no room for.
func (f *initFile) make(root *rootfs.Root) error {
	dir, err := root.MkdirAll(path.Dir(f.name), 0o755)
	if errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	at, base := int(dir.Fd()), path.Base(f.name)
	switch f.mode & unix.S_IFMT {
	case unix.S_IFDIR:
		err = unix.Mkdirat(at, base, f.mode&0o7777)
	case unix.S_IFLNK:
		err = unix.Symlinkat(f.link, at, base)
	default:
		err = unix.Mknodat(at, base, f.mode, 0)
	}
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// takeSnapshot holds a snapshot under the lease of ctx and says whether it is there. It
// looks twice: only what is there once it is held can't be collected any more.
func (s *Service) takeSnapshot(ctx context.Context, name string) (bool, error) {
	for range 2 {
		_, err := s.Snapshots.Stat(ctx, name)
		if errdefs.IsNotFound(err) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("stat snapshot %s: %w", name, err)
		}
		if err := s.holdSnapshot(ctx, name); err != nil {
			return false, err
		}
	}
	return true, nil
}

// dropSnapshot undoes a Prepare, even when ctx has ended.
func (s *Service) dropSnapshot(ctx context.Context, key string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	if err := s.Snapshots.Remove(ctx, key); err != nil && !errdefs.IsNotFound(err) {
		s.log.WarnContext(ctx, "remove snapshot", "snapshot", key, "err", err)
	}
}
