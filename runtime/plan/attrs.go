package plan

import (
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// openOwnAttrs opens the label files from inside the container, whose /proc may be
// anything: in a procfs of the child's own that shows processes alone, or where that can't
// be made (in a user namespace some of the visible procfs is masked) in the container's,
// if it is one.
func (b *builder) openOwnAttrs() {
	for _, a := range b.o.Process.Attrs {
		b.Label("open label file %s", a.Path)
		fs, _ := b.FSOpen("fs", "proc")
		b.FSString(fs, "subset", "pid")
		proc := b.Reg("proc")
		b.FSMountTo(proc, fs, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_NODEV).Tolerate(unix.EPERM)
		b.IfUnset(proc, func() { b.OpenTo(proc, program.Cwd, "/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW) })
		f, _ := b.Open("label", program.From(proc), "thread-self/"+a.Path, unix.O_WRONLY)
		b.IsType(f, unix.PROC_SUPER_MAGIC, "proc")
		b.Close(proc)
		b.attrs = append(b.attrs, f)
	}
}
