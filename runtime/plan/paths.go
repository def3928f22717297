package plan

import (
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// maskedPaths covers files with the host's null device and directories with an
// empty read-only tmpfs; what is not there needs no mask.
func (b *builder) maskedPaths() {
	for _, p := range b.spec.Linux.MaskedPaths {
		b.Label("mask %s", p)
		to, o := b.OpenIn("to", b.root, p, unix.O_PATH)
		o.Tolerate(unix.ENOENT)
		b.IfOK(o, func() {
			null, _ := b.OpenTree("null", program.Cwd, "/dev/null", unix.OPEN_TREE_CLONE)
			o := b.Attach(null, to).Tolerate(unix.ENOTDIR, unix.EINVAL)
			b.IfFailed(o, func() {
				fs, _ := b.FSOpen("fs", "tmpfs")
				b.FSString(fs, "nr_blocks", "1")
				b.FSString(fs, "nr_inodes", "1")
				t, _ := b.FSMount("empty", fs, unix.MOUNT_ATTR_RDONLY)
				b.Attach(t, to)
				b.Close(t)
			})
			b.Close(null)
			b.Close(to)
		})
	}
}

// readonlyPaths binds each path on itself, read-only; other flags stay.
func (b *builder) readonlyPaths() {
	for _, p := range b.spec.Linux.ReadonlyPaths {
		b.Label("make %s read-only", p)
		to, o := b.OpenIn("to", b.root, p, unix.O_PATH)
		o.Tolerate(unix.ENOENT)
		b.IfOK(o, func() {
			tree, _ := b.OpenTree("tree", program.From(to), "", unix.OPEN_TREE_CLONE|unix.AT_EMPTY_PATH|unix.AT_RECURSIVE)
			b.SetAttr(tree, program.Attr{Set: unix.MOUNT_ATTR_RDONLY}, false)
			b.Attach(tree, to)
			b.Close(tree)
			b.Close(to)
		})
	}
}
