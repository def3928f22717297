// Package seccomp compiles a spec's seccomp profile to the classic BPF filter
// that seccomp(2) takes.
//
// # What the filter does
//
// It looks at the architecture first, then finds the call's number in a binary
// tree of ranges, and runs the rules of that call: those with conditions in the
// profile's order, the first that holds decides; else the first rule without
// conditions; else the default action. A call of an architecture that the
// profile does not list kills the process.
//
// # Kept from libseccomp and runc, so that profiles mean the same
//
//   - A rule whose action is the default action is passed over.
//   - Where one rule has two conditions on the same argument, each of its
//     conditions stands alone (either is enough); otherwise all have to hold.
//   - A call with a number above all those that the profile names on that
//     architecture gets ENOSYS instead of the default action, unless that is
//     ALLOW, LOG or TRACE: C libraries fall back on ENOSYS but not on EPERM.
//   - Names that the architecture lacks are passed over.
//   - Arguments of a 32-bit architecture, x32 too, are compared by their low halves.
//   - No flags at all (not even an empty list) means SPEC_ALLOW.
//
// # Notifications
//
// A profile that notifies becomes two filters, of which the kernel takes the stricter
// answer. The one that notifies can be loaded as early as its listener can be
// handed out, the one that refuses as late as ever.
//
// # Size
//
// The kernel takes 4096 instructions; a profile that needs more is refused.
// Conditional jumps reach 255 instructions; farther targets go through an
// unconditional jump. Equal code is emitted once.
package seccomp

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Filter is a compiled profile: a program with its flags for
// seccomp(SECCOMP_SET_MODE_FILTER), SECCOMP_FILTER_FLAG_*, and where a rule notifies
// a second one.
type Filter struct {
	Program     []unix.SockFilter // 1..4096 instructions; lets through what Notify asks about
	Flags       uint
	Notify      []unix.SockFilter // asks a listener about the calls that notify and allows all others; nil: none does
	NotifyFlags uint              // Notify's, for a listener's descriptor
	Warnings    []string          // what of the profile has no effect
}

// Compile builds the filter of a profile for this program's architecture and
// those the profile lists. It is pure. Classes: InvalidArgument; NotImplemented
// on an architecture without a table.
func Compile(s *specs.LinuxSeccomp) (*Filter, error) {
	native, err := Native()
	if err != nil {
		return nil, err
	}
	return compile(s, native)
}

func compile(s *specs.LinuxSeccomp, native specs.Arch) (*Filter, error) {
	p, err := parse(s)
	if err != nil {
		return nil, invalid(err)
	}
	abis, warnings, err := resolve(native, s.Architectures)
	if err != nil {
		return nil, err
	}
	f := &Filter{Warnings: warnings}
	notifies := p.notifies()
	if err := f.setFlags(s.Flags, notifies); err != nil {
		return nil, invalid(err)
	}
	if notifies {
		var asking *profile
		p, asking = p.split()
		if f.Notify, err = asking.assemble(abis); err != nil {
			return nil, invalid(err)
		}
	}
	if f.Program, err = p.assemble(abis); err != nil {
		return nil, invalid(err)
	}
	return f, nil
}

func invalid(err error) error {
	return fmt.Errorf("seccomp: %w", errors.Join(err, errdefs.ErrInvalidArgument))
}

func (f *Filter) setFlags(flags []specs.LinuxSeccompFlag, notifies bool) error {
	killable := uint(0)
	if flags == nil {
		f.Flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
	}
	for _, name := range flags {
		bit, ok := filterFlags[name]
		switch {
		case !ok:
			return fmt.Errorf("unknown flag %q", name)
		case name == flagTSync:
		case name != specs.LinuxSeccompFlagWaitKillableRecv:
			f.Flags |= bit
		case notifies:
			killable = bit
		default: // the kernel refuses it
			f.Warnings = append(f.Warnings, "seccomp: "+string(name)+" has no effect: nothing notifies")
		}
	}
	if notifies {
		f.NotifyFlags = f.Flags | killable | unix.SECCOMP_FILTER_FLAG_NEW_LISTENER
	}
	return nil
}
