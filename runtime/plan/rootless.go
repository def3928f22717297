package plan

import (
	"fmt"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// Creator is what the one who runs a program may not do.
type Creator struct {
	// Unprivileged: it can neither mount nor join a pid namespace. The child does
	// both itself, once it is root of its user namespace.
	Unprivileged bool
	// InUserNS: it is in a user namespace below the host's, where no device nodes
	// can be made.
	InUserNS bool
	// NoDevices: it lacks CAP_MKNOD.
	NoDevices bool
	// Dumpable: hooks, and what is executed in the container before its start, join
	// the init's namespaces. The kernel allows that an unprivileged creator only
	// while the init is dumpable: up to execve its memory is the creator's, not its
	// user namespace's.
	Dumpable bool
}

// handed says whether the creator opens root and sources of binds for a child
// that may be unable to reach them.
func (b *builder) handed() bool {
	return (b.ns.user() || b.ns.joined[specs.MountNamespace] != "") && !b.o.Creator.Unprivileged
}

// bindsDevices says whether nodes can't be made, so that the host's are shown.
func (b *builder) bindsDevices() bool {
	return b.ns.user() || b.o.Creator.InUserNS || b.o.Creator.NoDevices
}

// HandsRoot says whether a container's root and the sources of its binds are
// inputs of its program.
func HandsRoot(spec *specs.Spec, c Creator) bool {
	return (HasUserNS(spec) || PathOf(spec, specs.MountNamespace) != "") && !c.Unprivileged
}

// MountLabel is what the ops of a mount of a new file system are labelled.
func MountLabel(m specs.Mount) string { return fmt.Sprintf("mount %s on %s", m.Type, m.Destination) }
