// Package rlimit turns a spec's resource limits to what prlimit(2) takes, held
// to what the kernel will grant.
//
// Without CAP_SYS_RESOURCE in the initial user namespace a hard limit can be
// lowered only; and no one gets a RLIMIT_NOFILE above /proc/sys/fs/nr_open.
package rlimit

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/security/caps"
)

// Infinity is no limit.
const Infinity = ^uint64(0)

// Limit is one prlimit(2) to be set.
type Limit struct {
	Name       string // "RLIMIT_NOFILE"
	Resource   int    // unix.RLIMIT_NOFILE
	Soft, Hard uint64 // in the resource's unit; Infinity: none
}

var resources = map[string]int{
	"RLIMIT_AS": unix.RLIMIT_AS, "RLIMIT_CORE": unix.RLIMIT_CORE, "RLIMIT_CPU": unix.RLIMIT_CPU,
	"RLIMIT_DATA": unix.RLIMIT_DATA, "RLIMIT_FSIZE": unix.RLIMIT_FSIZE, "RLIMIT_LOCKS": unix.RLIMIT_LOCKS,
	"RLIMIT_MEMLOCK": unix.RLIMIT_MEMLOCK, "RLIMIT_MSGQUEUE": unix.RLIMIT_MSGQUEUE,
	"RLIMIT_NICE": unix.RLIMIT_NICE, "RLIMIT_NOFILE": unix.RLIMIT_NOFILE, "RLIMIT_NPROC": unix.RLIMIT_NPROC,
	"RLIMIT_RSS": unix.RLIMIT_RSS, "RLIMIT_RTPRIO": unix.RLIMIT_RTPRIO, "RLIMIT_RTTIME": unix.RLIMIT_RTTIME,
	"RLIMIT_SIGPENDING": unix.RLIMIT_SIGPENDING, "RLIMIT_STACK": unix.RLIMIT_STACK,
}

// Number is a limit's number by its spec name ("RLIMIT_NOFILE").
func Number(name string) (int, bool) {
	n, ok := resources[name]
	return n, ok
}

// Clamped gives in in order, held to what the calling process can set; each
// lowered limit makes a warning. An unknown or repeated type, and a soft limit
// above its hard one, are InvalidArgument.
func Clamped(in []specs.POSIXRlimit) ([]Limit, []string, error) {
	out, err := parse(in)
	if err != nil || len(out) == 0 {
		return nil, nil, err
	}
	ceil, err := ceilings(out)
	if err != nil {
		return nil, nil, err
	}
	return out, clamp(out, ceil), nil
}

func parse(in []specs.POSIXRlimit) ([]Limit, error) {
	var out []Limit
	seen := map[string]bool{}
	for _, l := range in {
		n, ok := resources[l.Type]
		switch {
		case !ok:
			return nil, fmt.Errorf("rlimit %q is unknown: %w", l.Type, errdefs.ErrInvalidArgument)
		case seen[l.Type]:
			return nil, fmt.Errorf("rlimit %s is given twice: %w", l.Type, errdefs.ErrInvalidArgument)
		case l.Soft > l.Hard:
			return nil, fmt.Errorf("rlimit %s: soft limit %s is above the hard limit %s: %w", l.Type, text(l.Soft), text(l.Hard), errdefs.ErrInvalidArgument)
		}
		seen[l.Type] = true
		out = append(out, Limit{l.Type, n, l.Soft, l.Hard})
	}
	return out, nil
}

// ceilings are the highest hard limits that this process can set, by resource.
func ceilings(ls []Limit) (map[int]uint64, error) {
	own, err := caps.Own()
	if err != nil {
		return nil, err
	}
	privileged := own.Effective&(1<<unix.CAP_SYS_RESOURCE) != 0 && inInitialUserNS()
	ceil := map[int]uint64{}
	for _, l := range ls {
		if privileged {
			continue
		}
		var r unix.Rlimit
		if err := unix.Prlimit(0, l.Resource, nil, &r); err != nil {
			return nil, fmt.Errorf("read %s: %w", l.Name, err)
		}
		ceil[l.Resource] = r.Max
	}
	if n, ok := nrOpen(); ok {
		have, limited := ceil[unix.RLIMIT_NOFILE]
		if !limited || have > n {
			ceil[unix.RLIMIT_NOFILE] = n
		}
	}
	return ceil, nil
}

// inInitialUserNS: the initial user namespace maps every id to itself.
func inInitialUserNS() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err != nil || strings.Join(strings.Fields(string(b)), " ") == "0 0 4294967295"
}

func nrOpen() (uint64, bool) {
	b, err := os.ReadFile("/proc/sys/fs/nr_open")
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(b)), 10, 64)
	return n, err == nil
}

// clamp lowers ls in place.
func clamp(ls []Limit, ceil map[int]uint64) (warnings []string) {
	for i := range ls {
		l := &ls[i]
		top, ok := ceil[l.Resource]
		if !ok || l.Hard <= top {
			continue
		}
		warnings = append(warnings, fmt.Sprintf("%s: hard limit %s can't be had here: %s instead", l.Name, text(l.Hard), text(top)))
		l.Hard, l.Soft = top, min(l.Soft, top)
	}
	return warnings
}

func text(n uint64) string {
	if n == Infinity {
		return "unlimited"
	}
	return strconv.FormatUint(n, 10)
}
