package cgroup

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// absent drives a rootless container's cgroup that could not be made: its
// processes stay in their creator's.
type absent struct{ kind Kind }

// Absent is the Manager of a container that has no cgroup. It signals and finds
// no process, removes nothing, and refuses what only a cgroup can do. Classes of
// those errors: Unavailable; NotFound for Pids.
func Absent() *Manager {
	h, err := readHost()
	if err != nil {
		h = new(host)
	}
	return &Manager{host: h, drv: absent{h.kind}}
}

// Absent says whether there is no cgroup, and never will be.
func (m *Manager) Absent() bool {
	_, ok := m.drv.(absent)
	return ok
}

func (absent) refuse(what string) error {
	return fmt.Errorf("%s: the container has no cgroup, for none could be made (without privileges that takes a delegated cgroup v2): %w", what, errdefs.ErrUnavailable)
}

func (absent) paths() map[string]string { return map[string]string{} }
func (absent) exists() bool             { return false }
func (absent) create() error            { return nil }

// set leaves everything out, with a warning of what it was.
func (a absent) set(res *specs.LinuxResources, first bool) ([]Warning, error) {
	if !first {
		return nil, a.refuse("set limits")
	}
	var ss []setting
	var warnings []Warning
	var err error
	if a.kind == V2 {
		ss, warnings, err = planV2(res, v2State{})
	} else {
		ss, warnings, err = planV1(res, v1State{noSwap: true})
	}
	if err != nil {
		return nil, err
	}
	_, left := possible(ss, func(string) (string, bool) { return "", false })
	return append(warnings, left...), nil
}

func (absent) joinFDs() ([]*os.File, error)   { return nil, nil }
func (absent) dirFD() (*os.File, error)       { return nil, nil }
func (a absent) addPid(int) error             { return a.refuse("join cgroup") }
func (absent) pids() ([]int, error)           { return nil, notFound(os.ErrNotExist) }
func (a absent) freeze(context.Context) error { return a.refuse("freeze") }
func (a absent) thaw(context.Context) error   { return a.refuse("thaw") }
func (absent) frozen() (bool, error)          { return false, nil }
func (absent) kill(context.Context) error     { return nil }
func (absent) remove(context.Context) error   { return nil }
func (a absent) stats() (*Stats, error)       { return nil, a.refuse("read counters") }
func (a absent) oomKilled() (uint64, error)   { return 0, a.refuse("count killed processes") }
func (a absent) oom() (<-chan struct{}, func(), error) {
	return nil, nil, a.refuse("watch memory")
}

// possible keeps the settings whose files are there. The rest makes one warning:
// without privileges there are the controllers that somebody has delegated.
func possible(ss []setting, dirOf func(string) (string, bool)) (kept []setting, warnings []Warning) {
	var left []string
	for _, s := range ss {
		switch {
		case s.there(dirOf):
			kept = append(kept, s)
		case !s.optional:
			left = append(left, s.file)
		}
	}
	if len(left) > 0 {
		warnings = append(warnings, "limits left out, for there is no cgroup with their controllers that may be written: "+strings.Join(left, ", "))
	}
	return kept, warnings
}

// there says whether the file of a setting, or of its alternative, exists.
func (s setting) there(dirOf func(string) (string, bool)) bool {
	if dir, ok := dirOf(s.controller); ok && exists(dir, s.file) {
		return true
	}
	return s.alt != nil && s.alt.there(dirOf)
}
