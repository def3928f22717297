package rootfs

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gantry/daemon/userns"
	"gantry/libctr/core/mount"
)

// Parts are an overlay taken apart: the upper directory as it is on disk, and the tree
// that it is mounted on.
type Parts struct {
	Lower  *Root
	Upper  *os.File // the kernel may be changing it
	Opaque string   // the attribute of directories in Upper that hide those in Lower
}

// OpenParts opens the parts of what a snapshotter gave out. ok is false when it is no
// overlay, or when its upper directory does not tell by itself what it changes. The
// caller closes the Parts.
func OpenParts(mounts []mount.Mount) (_ *Parts, ok bool, err error) {
	if len(mounts) != 1 || mounts[0].Target != "" || mounts[0].Type != "overlay" {
		return nil, false, nil
	}
	l := parse(mounts[0].Options)
	if l.upper == "" || !l.plain() || l.refers("redirect_dir") || l.refers("metacopy") {
		return nil, false, nil
	}
	upper, err := os.OpenFile(l.upper, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, false, fmt.Errorf("open upper directory: %w", err)
	}
	opaque := l.xattrs() + "opaque"
	l.upper = ""
	fd, err := mountLayers(l.withoutUpper())
	if err != nil {
		upper.Close()
		return nil, false, fmt.Errorf("mount lower layers: %w", err)
	}
	ids, _, err := userns.FromOptions(l.ids)
	return &Parts{Lower: &Root{dir: os.NewFile(uintptr(fd), "lower"), ids: ids}, Upper: upper, Opaque: opaque}, true, err
}

// Close drops the mount and the directory.
func (p *Parts) Close() error {
	p.Upper.Close()
	return p.Lower.Close()
}

// Dir is the root directory; it is the Root's.
func (r *Root) Dir() *os.File { return r.dir }

// refers says whether a feature is on with which the upper directory refers to the lower
// ones.
func (l layers) refers(feature string) bool {
	if slices.Contains(l.rest, feature+"=on") {
		return true
	}
	b, err := os.ReadFile("/sys/module/overlay/parameters/" + feature)
	return err == nil && strings.TrimSpace(string(b)) == "Y" && !slices.Contains(l.rest, feature+"=off")
}
