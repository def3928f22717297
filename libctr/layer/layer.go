// Package layer applies and writes image layers: tars of filesystem changes as
// the OCI image specification has them (layer.md): an entry replaces what is at
// its path, ".wh.NAME" deletes NAME, ".wh..wh..opq" deletes all that lower layers
// have in its directory.
//
// A layer is hostile input. Every path is resolved with openat2 inside the root's
// descriptor (RESOLVE_IN_ROOT), what an entry creates is created relative to its
// parent's descriptor and never through a link, and attributes by which overlayfs
// itself works are not taken from a layer. Bounds: MaxEntries entries, names and
// link targets of MaxName bytes.
package layer

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
)

// Bounds of one layer.
const (
	MaxEntries = 4 << 20
	MaxName    = 4096      // bytes
	maxSparse  = 512 << 30 // bytes a sparse file may claim: its zeros cost no input
)

const (
	whiteout       = ".wh."
	whiteoutMeta   = ".wh..wh." // aufs's own, of which only opaque means something
	whiteoutOpaque = ".wh..wh..opq"
)

// Target is where a layer goes.
type Target struct {
	Dir string
	// Overlay: Dir is an overlay's upper directory, so deletions become overlayfs's
	// whiteouts. Otherwise they delete in Dir.
	Overlay   bool
	UserXattr bool // the overlay marks with user.overlay.* in place of trusted.overlay.*
	// Lower are the overlay's lower directories, topmost first. An overlay without any is
	// one whose lower directories are not known yet: Rebase has to be told them. A layer
	// that needs them at once, for a hard link, is FailedPrecondition.
	Lower []string
}

// Apply unpacks the tar r onto the target. It reads to the end of the tar's
// entries, not further. On error the target holds part of the layer.
func Apply(ctx context.Context, r io.Reader, t Target) error {
	a, err := newApplier(t)
	if err != nil {
		return fmt.Errorf("apply layer: %w", err)
	}
	defer a.close()
	tr := tar.NewReader(r)
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		hdr, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return readErr(err)
		}
		if n >= MaxEntries {
			return errdefs.InvalidArgument("apply layer: more than %d entries", MaxEntries)
		}
		if err := a.entry(ctx, hdr, tr); err != nil {
			return fmt.Errorf("apply layer: %.200q: %w", hdr.Name, err)
		}
	}
	if err := a.finish(); err != nil {
		return fmt.Errorf("apply layer: %w", err)
	}
	return nil
}

// readErr tells what is wrong with the tar from what is wrong with its source.
func readErr(err error) error {
	if errors.Is(err, tar.ErrHeader) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errdefs.InvalidArgument("apply layer: %w", err)
	}
	return fmt.Errorf("apply layer: %w", err)
}

// applier is one Apply.
type applier struct {
	target Target
	root   *os.File   // O_PATH
	lower  []*os.File // O_PATH
	userns bool

	made map[string]struct{} // paths that this layer has, for its whiteouts to spare
	dirs []directory         // whose times are set last
	mark byte                // that the root gets

	parentPath string // of parent; "" is none
	parent     *os.File
	buf        []byte
}

type directory struct {
	path        string
	access, mod unix.Timespec
}

func newApplier(t Target) (*applier, error) {
	a := &applier{target: t, made: make(map[string]struct{}), buf: make([]byte, 256<<10), userns: inUserNamespace()}
	open := func(dir string) (*os.File, error) {
		return os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	}
	if a.alone() {
		a.mark = implied
	}
	var err error
	if a.root, err = open(t.Dir); err != nil {
		return nil, err
	}
	for _, dir := range t.Lower {
		f, err := open(dir)
		if err != nil {
			a.close()
			return nil, err
		}
		a.lower = append(a.lower, f)
	}
	return a, nil
}

func (a *applier) close() {
	a.forgetParent()
	if a.root != nil {
		a.root.Close()
	}
	for _, f := range a.lower {
		f.Close()
	}
}

// clean makes an entry's name a path below the root: "" is the root itself.
func clean(name string) (string, error) {
	if len(name) > MaxName {
		return "", errdefs.InvalidArgument("name of %d bytes is longer than %d", len(name), MaxName)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", errdefs.InvalidArgument("name has a null byte")
	}
	return path.Clean("/" + name)[1:], nil
}

// entry applies one entry.
func (a *applier) entry(ctx context.Context, hdr *tar.Header, r io.Reader) error {
	name, err := clean(hdr.Name)
	if err != nil {
		return err
	}
	if name == "" {
		return a.rootEntry(hdr)
	}
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	switch {
	case base == whiteoutOpaque:
		return a.opaque(dir)
	case strings.HasPrefix(base, whiteoutMeta):
		return nil
	case strings.HasPrefix(base, whiteout):
		base = base[len(whiteout):]
		if base == "" || base == "." || base == ".." {
			return errdefs.InvalidArgument("whiteout of nothing")
		}
		return a.whiteout(dir, base)
	}
	parent, err := a.openParent(dir)
	if err != nil {
		return err
	}
	a.made[name] = struct{}{}
	return a.create(ctx, parent, name, base, hdr, r)
}

// rootEntry gives the root the attributes of its own entry.
func (a *applier) rootEntry(hdr *tar.Header) error {
	if hdr.Typeflag != tar.TypeDir {
		return nil // no other kind can be meant
	}
	f, err := openIn(a.root, ".", unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return err
	}
	defer f.Close()
	a.mark &^= implied
	a.dirs = append(a.dirs, newDirectory(".", hdr))
	return a.attributes(f, hdr)
}

// finish sets the times of directories, now that nothing more is made in them; of one that
// comes twice the last count.
func (a *applier) finish() error {
	if a.mark != 0 {
		if err := mark(a.root, a.mark); err != nil {
			return err
		}
	}
	seen := make(map[string]struct{}, len(a.dirs))
	for i := len(a.dirs) - 1; i >= 0; i-- {
		d := a.dirs[i]
		if _, ok := seen[d.path]; ok {
			continue
		}
		seen[d.path] = struct{}{}
		f, err := openIn(a.root, d.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
			continue // replaced by a later entry
		}
		if err != nil {
			return fmt.Errorf("%.200q: %w", d.path, err)
		}
		err = futimens(f, d.access, d.mod)
		f.Close()
		if err != nil {
			return fmt.Errorf("set times of %.200q: %w", d.path, err)
		}
	}
	return nil
}
