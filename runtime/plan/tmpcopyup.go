package plan

import (
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/program"
	"gantry/runtime/rootfs"
)

// likeBeneath gives a new tmpfs, still detached in r, what the directory that it is to cover
// has: its mode, unless an option says one, and with tmpcopyup its owner and all that is in
// it. A directory that is not there gives nothing.
func (b *builder) likeBeneath(r program.Reg, m specs.Mount, f rootfs.Flags) {
	mode := !f.Has("mode")
	if !mode && !f.CopyUp {
		return
	}
	how := unix.O_PATH
	if f.CopyUp {
		how = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_DIRECTORY
	}
	beneath, o := b.OpenIn("beneath", b.root, m.Destination, how)
	o.Tolerate(unix.ENOENT)
	b.IfOK(o, func() {
		top, _ := b.Open("top", program.From(r), ".", unix.O_RDONLY|unix.O_DIRECTORY)
		if f.CopyUp {
			b.CopyTree(beneath, top).Detail("copy what lies beneath")
		}
		b.copyAttributes(beneath, top, mode, f.CopyUp && !f.Has("uid") && !f.Has("gid"))
		b.Close(top)
		b.Close(beneath)
	})
}

// copyAttributes gives a directory another's mode and owner. An owner that a user namespace
// does not know stays behind.
func (b *builder) copyAttributes(from, to program.Reg, mode, owner bool) {
	if !mode && !owner {
		return
	}
	st := b.Statx(from)
	if owner {
		uid, gid := b.Load("uid", st, program.StatxUID, ^uint32(0)), b.Load("gid", st, program.StatxGID, ^uint32(0))
		b.Call("fchown", unix.SYS_FCHOWN, program.From(to), program.From(uid), program.From(gid)).Tolerate(unix.EINVAL, unix.EPERM)
	}
	if mode {
		b.Call("fchmod", unix.SYS_FCHMOD, program.From(to), program.From(b.Load("mode", st, program.StatxMode, 0o7777)))
	}
}
