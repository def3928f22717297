package plan

import (
	"strings"

	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// maskedPaths covers files with the host's null device and directories with an
// empty read-only tmpfs, the same for all; what is not there needs no mask.
func (b *builder) maskedPaths() {
	empty := b.Reg("empty")
	for _, p := range b.spec.Linux.MaskedPaths {
		b.Label("mask %s", p)
		to, o := b.openShown(p)
		o.Tolerate(unix.ENOENT)
		b.IfOK(o, func() {
			null, _ := b.OpenTree("null", program.Cwd, "/dev/null", unix.OPEN_TREE_CLONE)
			o := b.Attach(null, to).Tolerate(unix.ENOTDIR, unix.EINVAL)
			b.IfFailed(o, func() { b.maskDir(empty, to) })
			b.Close(null)
			b.Close(to)
		})
	}
}

// maskDir attaches the empty file system at to, or a clone of it: of a mount that is
// attached already, since old kernels clone no other.
func (b *builder) maskDir(empty, to program.Reg) {
	var attach *program.Op
	b.IfUnset(empty, func() {
		fs, _ := b.FSOpen("fs", "tmpfs")
		b.FSString(fs, "nr_blocks", "1")
		b.FSString(fs, "nr_inodes", "1")
		if key, label, ok := strings.Cut(b.ownLabel(), "="); ok {
			b.FSString(fs, key, label)
		}
		b.FSMountTo(empty, fs, unix.MOUNT_ATTR_RDONLY)
		attach = b.Attach(empty, to)
	})
	b.IfFailed(attach, func() { // that is, when empty was there
		tree, _ := b.OpenTree("tree", program.From(empty), "", unix.OPEN_TREE_CLONE|unix.AT_EMPTY_PATH)
		b.Attach(tree, to)
		b.Close(tree)
	})
}

// readonlyPaths binds each path on itself, read-only; other flags stay.
func (b *builder) readonlyPaths() {
	for _, p := range b.spec.Linux.ReadonlyPaths {
		b.Label("make %s read-only", p)
		to, o := b.openShown(p)
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
