package plan

import (
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// openProc opens the host's procfs while it can be reached: what is written to it later
// must not go to another that the container, or who shares a namespace with it, has made.
func (b *builder) openProc() {
	if len(b.spec.Linux.Sysctl) == 0 && len(b.o.Process.Attrs) == 0 {
		return
	}
	b.Label("open procfs")
	b.procfs, _ = b.Open("proc", program.Cwd, "/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
	b.IsType(b.procfs, unix.PROC_SUPER_MAGIC, "proc")
}

// openInProc opens a file of the host's procfs for writing; nothing may be mounted over it.
func (b *builder) openInProc(name, path string) program.Reg {
	f, _ := b.Open(name, program.From(b.procfs), path, unix.O_WRONLY)
	b.IsType(f, unix.PROC_SUPER_MAGIC, "proc")
	return f
}

func (b *builder) closeProc() {
	if b.procfs != 0 {
		b.Label("close procfs")
		b.Close(b.procfs)
	}
}

// openAttrs opens the label files of the child.
func (b *builder) openAttrs() {
	for _, a := range b.o.Process.Attrs {
		b.Label("open label file %s", a.Path)
		b.attrs = append(b.attrs, b.openInProc("label", "thread-self/"+a.Path))
	}
}

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
