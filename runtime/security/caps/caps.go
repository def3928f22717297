// Package caps turns a spec's capability names to the five sets of a process,
// held to what the kernel will grant.
//
// A process can't get what it lacks: permitted and effective shrink only,
// inheritable takes from inheritable and bounding (and from permitted instead of
// bounding without CAP_SETPCAP), bounding shrinks only, and ambient is what is
// both permitted and inheritable (capabilities(7)). A process that makes a user
// namespace has all of them inside.
package caps

import (
	"fmt"
	"math/bits"
	"slices"
	"strings"
	"sync"

	"github.com/moby/sys/capability"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// Sets are the five sets of a process as bit masks, bit n = capability n.
type Sets struct {
	Effective, Permitted, Inheritable, Bounding, Ambient uint64
}

// byName has the upper-case names, as in specs: "CAP_CHOWN".
var byName = sync.OnceValue(func() map[string]int {
	m := map[string]int{}
	for _, c := range capability.ListKnown() {
		m["CAP_"+strings.ToUpper(c.String())] = int(c)
	}
	return m
})

// Number is a capability's number by its spec name ("CAP_CHOWN").
func Number(name string) (int, bool) {
	n, ok := byName()[name]
	return n, ok
}

// Name is the spec name of a number; "CAP_<n>" for one that is newer than this
// program.
func Name(n int) string {
	if n < 0 || n >= len(byName()) {
		return fmt.Sprintf("CAP_%d", n)
	}
	return "CAP_" + strings.ToUpper(capability.Cap(n).String())
}

// Known are the names that this program knows, by number.
func Known() []string { return Names(1<<len(byName()) - 1) }

// Last is the highest number that the kernel knows.
func Last() (int, error) {
	c, err := capability.LastCap()
	return int(c), err
}

// Names lists a set in ascending order of numbers.
func Names(set uint64) []string {
	names := []string{}
	for ; set != 0; set &= set - 1 {
		names = append(names, Name(bits.TrailingZeros64(set)))
	}
	return names
}

// Own are the sets of the calling thread.
func Own() (Sets, error) {
	s, err := held()
	if err != nil {
		return Sets{}, err
	}
	last, err := Last()
	if err != nil {
		return Sets{}, fmt.Errorf("last capability: %w", err)
	}
	for n := 0; n <= last; n++ {
		in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, uintptr(n), 0, 0, 0)
		if err != nil {
			return Sets{}, fmt.Errorf("read bounding set: %w", err)
		}
		s.Bounding |= uint64(in&1) << n
	}
	return s, nil
}

// held are the sets but the bounding one, which takes a call for each capability.
func held() (Sets, error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return Sets{}, fmt.Errorf("capget: %w", err)
	}
	join := func(lo, hi uint32) uint64 { return uint64(hi)<<32 | uint64(lo) }
	return Sets{
		Effective:   join(data[0].Effective, data[1].Effective),
		Permitted:   join(data[0].Permitted, data[1].Permitted),
		Inheritable: join(data[0].Inheritable, data[1].Inheritable),
	}, nil
}

// Permitted is the permitted set of the calling thread.
func Permitted() (uint64, error) {
	s, err := held()
	return s.Permitted, err
}

// Have says whether the calling thread can use a capability, in its own user
// namespace and those below.
func Have(number int) bool {
	s, err := held()
	return err == nil && s.Effective>>number&1 != 0
}

// All are all sets full up to last: what a process has in a user namespace that
// it has just made.
func All(last int) Sets {
	m := uint64(1)<<(last+1) - 1
	return Sets{Effective: m, Permitted: m, Bounding: m}
}

// Clamped gives the sets of c, less what the calling process can't hand on; each
// capability that is left out of some set makes one warning. Nil gives five
// empty sets.
func Clamped(c *specs.LinuxCapabilities) (Sets, []string, error) {
	own, err := Own()
	if err != nil {
		return Sets{}, nil, err
	}
	s, warnings := Clamp(c, own)
	return s, warnings, nil
}

// ClampedInUserNS is Clamped for a process in a user namespace of its own.
func ClampedInUserNS(c *specs.LinuxCapabilities) (Sets, []string, error) {
	last, err := Last()
	if err != nil {
		return Sets{}, nil, fmt.Errorf("last capability: %w", err)
	}
	s, warnings := Clamp(c, All(last))
	return s, warnings, nil
}

// Clamp is the pure part: c, held to what a process with the sets have can set.
func Clamp(c *specs.LinuxCapabilities, have Sets) (Sets, []string) {
	if c == nil {
		return Sets{}, nil
	}
	var unknown names
	want := Sets{
		Effective:   unknown.mask(c.Effective),
		Permitted:   unknown.mask(c.Permitted),
		Inheritable: unknown.mask(c.Inheritable),
		Bounding:    unknown.mask(c.Bounding),
		Ambient:     unknown.mask(c.Ambient),
	}
	heritable := have.Inheritable | have.Bounding
	if have.Effective&(1<<unix.CAP_SETPCAP) == 0 {
		heritable = have.Inheritable | have.Permitted&have.Bounding
	}
	got := Sets{
		Bounding:    want.Bounding & have.Bounding,
		Permitted:   want.Permitted & have.Permitted,
		Inheritable: want.Inheritable & heritable,
	}
	got.Effective = want.Effective & got.Permitted
	got.Ambient = want.Ambient & got.Permitted & got.Inheritable
	return got, append(unknown.warnings(), lost(want, got)...)
}

// lost tells what is in want but not in got.
func lost(want, got Sets) (warnings []string) {
	all := func(s Sets) uint64 {
		return s.Effective | s.Permitted | s.Inheritable | s.Bounding | s.Ambient
	}
	diff := Sets{
		want.Effective &^ got.Effective, want.Permitted &^ got.Permitted,
		want.Inheritable &^ got.Inheritable, want.Bounding &^ got.Bounding, want.Ambient &^ got.Ambient,
	}
	for rest := all(diff); rest != 0; rest &= rest - 1 {
		bit := rest & -rest
		var sets []string
		for _, s := range []struct {
			name string
			mask uint64
		}{
			{"bounding", diff.Bounding}, {"effective", diff.Effective}, {"permitted", diff.Permitted},
			{"inheritable", diff.Inheritable}, {"ambient", diff.Ambient},
		} {
			if s.mask&bit != 0 {
				sets = append(sets, s.name)
			}
		}
		warnings = append(warnings, fmt.Sprintf("capability %s can't be given: left out of %s",
			Name(bits.TrailingZeros64(bit)), strings.Join(sets, ", ")))
	}
	return warnings
}

// names collects those that are unknown, each once.
type names []string

func (u *names) mask(in []string) (m uint64) {
	for _, n := range in {
		if bit, ok := Number(n); ok {
			m |= 1 << bit
			continue
		}
		u.add(n)
	}
	return m
}

func (u *names) add(n string) {
	for _, have := range *u {
		if have == n {
			return
		}
	}
	*u = append(*u, n)
}

// warnings has runc's words.
func (u names) warnings() []string {
	if len(u) == 0 {
		return nil
	}
	return []string{fmt.Sprintf("ignoring unknown or unavailable capabilities: %v", slices.Sorted(slices.Values(u)))}
}
