package plan

import (
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// shownMount is a mount of procfs or sysfs in the container. What is to be masked in it is
// looked for in the mount, not by its path: who shares the root filesystem with the
// container may have given that path to something else meanwhile.
type shownMount struct {
	dest  string // absolute and clean
	mount program.Reg
}

// cover forgets what a mount on dest hides.
func (b *builder) cover(dest string) {
	dest = path.Join("/", dest)
	b.shown = slices.DeleteFunc(b.shown, func(s shownMount) bool {
		return s.dest == dest || dest == "/" || strings.HasPrefix(s.dest, dest+"/")
	})
}

// openShown opens a path of the container with O_PATH.
func (b *builder) openShown(p string) (program.Reg, *program.Op) {
	p = path.Join("/", p)
	for _, s := range slices.Backward(b.shown) {
		if below, ok := strings.CutPrefix(p, s.dest+"/"); ok {
			return b.OpenIn("to", s.mount, below, unix.O_PATH)
		}
	}
	return b.OpenIn("to", b.root, p, unix.O_PATH)
}
