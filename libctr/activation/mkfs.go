package activation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/mount"
)

// mkfsTimeout bounds the making of a file system, and maxSize its size: a file of that
// size takes no room until it is written.
const (
	mkfsTimeout = 5 * time.Minute
	maxSize     = 16 << 40
)

// filesystem is what a file is to hold.
type filesystem struct {
	size     int64
	kind, id string
}

// makers are the programs, and how each is told an id.
var makers = map[string]func(id string) []string{
	"ext2": ext, "ext3": ext, "ext4": ext,
	"xfs": func(id string) []string { return []string{"-m", "uuid=" + id} },
}

func ext(id string) []string { return []string{"-U", id} }

var uuid = regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)

// mkfs makes the source, unless it is there, and takes its options away.
func (m *Manager) mkfs(ctx context.Context, mt mount.Mount) (mount.Mount, error) {
	fs := filesystem{kind: "ext4"}
	var rest []string
	for _, o := range mt.Options {
		what, ours := strings.CutPrefix(o, optionMkfs)
		if !ours {
			rest = append(rest, o)
		} else if err := fs.set(what); err != nil {
			return mt, fmt.Errorf("option %.200q: %w", o, err)
		}
	}
	mt.Options = rest
	if fs.size == 0 {
		return mt, errdefs.InvalidArgument("the option %ssize is required", optionMkfs)
	}
	return mt, m.makeFilesystem(ctx, mt.Source, fs)
}

func (fs *filesystem) set(option string) (err error) {
	name, value, _ := strings.Cut(option, "=")
	switch name {
	case "size":
		if fs.size, err = units.RAMInBytes(value); err != nil || fs.size <= 0 || fs.size > maxSize {
			return errdefs.InvalidArgument("invalid size")
		}
	case "fs":
		if makers[value] == nil {
			return errdefs.InvalidArgument("unsupported file system")
		}
		fs.kind = value
	case "uuid":
		if !uuid.MatchString(value) {
			return errdefs.InvalidArgument("invalid uuid")
		}
		fs.id = value
	default:
		return errdefs.InvalidArgument("unknown")
	}
	return nil
}

// makeFilesystem makes the file under another name first, so that what is there is whole.
func (m *Manager) makeFilesystem(ctx context.Context, path string, fs filesystem) (err error) {
	parent, name, err := m.openParent(path)
	if err != nil {
		return fmt.Errorf("file system in %s: %w", path, err)
	}
	defer parent.Close()
	dir := int(parent.Fd())
	var st unix.Stat_t
	if err := unix.Fstat(dir, &st); err != nil {
		return fmt.Errorf("file system in %s: %w", path, err)
	}
	unlock, err := m.drafts.Lock(ctx, fmt.Sprintf("%d:%d/%s", st.Dev, st.Ino, name))
	if err != nil {
		return err
	}
	defer unlock()
	if err := unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW); !errors.Is(err, unix.ENOENT) {
		return err // it is there
	}
	draft := name + ".mkfs"
	if err := unix.Unlinkat(dir, draft, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove %s.mkfs: %w", path, err)
	}
	fd, err := unix.Openat(dir, draft, unix.O_RDWR|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o640)
	if err != nil {
		return fmt.Errorf("make %s: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreGone(unix.Unlinkat(dir, draft, 0)))
		}
	}()
	if err := f.Truncate(fs.size); err != nil {
		return err
	}
	if err := fs.make(ctx, f); err != nil {
		return fmt.Errorf("make %s in %s: %w", fs.kind, path, err)
	}
	failpoint.Hit("libctr/activation.mkfs.made")
	return unix.Renameat(dir, draft, dir, name)
}

func ignoreGone(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// make runs the program on the open file.
func (fs filesystem) make(ctx context.Context, f *os.File) error {
	ctx, cancel := context.WithTimeout(ctx, mkfsTimeout)
	defer cancel()
	args := []string{"-q"}
	if fs.id != "" {
		args = append(args, makers[fs.kind](fs.id)...)
	}
	cmd := exec.CommandContext(ctx, "mkfs."+fs.kind, append(args, "/proc/self/fd/3")...)
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	out := new(limited)
	cmd.Stdout, cmd.Stderr = out, out // one writer, one goroutine
	err := cmd.Run()
	if errors.Is(err, exec.ErrNotFound) {
		return errdefs.NotImplemented("mkfs.%s is not installed", fs.kind)
	}
	if text := strings.TrimSpace(out.String()); err != nil && text != "" {
		return fmt.Errorf("%s: %w", strings.ToValidUTF8(text, "?"), err)
	}
	return err
}

// limited keeps the first 4 KiB.
type limited struct{ bytes.Buffer }

func (l *limited) Write(p []byte) (int, error) {
	l.Buffer.Write(p[:min(len(p), max(0, 4096-l.Len()))])
	return len(p), nil
}
