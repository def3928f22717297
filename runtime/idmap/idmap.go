// Package idmap gives user namespaces their ids.
//
// Who may write the maps is the kernel's rule (user_namespaces(7)):
//
//	CAP_SETUID, CAP_SETGID here   any ids that are mapped here
//	anybody                       one id, his own; for a group only once setgroups is denied
//	newuidmap, newgidmap          what /etc/subuid and /etc/subgid give to the user
//
// Users and groups are looked at apart, so that a map of one user does not cost
// the groups of a map that newgidmap writes.
package idmap

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/security/caps"
)

// Maps are the ids of a user namespace.
type Maps struct {
	UIDs, GIDs []specs.LinuxIDMapping
}

// Has says whether an id of the namespace is mapped.
func Has(list []specs.LinuxIDMapping, id uint32) bool {
	return slices.ContainsFunc(list, func(m specs.LinuxIDMapping) bool {
		return id >= m.ContainerID && uint64(id) < uint64(m.ContainerID)+uint64(m.Size)
	})
}

// DeniesGroups says whether a map of groups makes Write deny setgroups.
func DeniesGroups(gids []specs.LinuxIDMapping) bool { return groups.choose(gids) == asOwn }

// kind is what users and groups do differently.
type kind struct {
	file     string // in /proc/<pid>
	tool     string
	noun     string
	table    string // whose subordinate ids it gives
	cap      int
	own      func() int
	setgroup bool // an own id needs setgroups to be denied
}

var (
	users  = kind{"uid_map", "newuidmap", "user", "/etc/subuid", unix.CAP_SETUID, os.Geteuid, false}
	groups = kind{"gid_map", "newgidmap", "group", "/etc/subgid", unix.CAP_SETGID, os.Getegid, true}
)

// Write maps the ids of the user namespace of process pid, which is new, a child
// of ours and has none yet.
func Write(pid int, m Maps) error {
	if err := users.write(pid, m.UIDs); err != nil {
		return err
	}
	return groups.write(pid, m.GIDs)
}

// way is how a map gets written.
type way int

const (
	byCapability way = iota
	asOwn
	byTool
)

// way decides; it is pure.
func (k kind) way(list []specs.LinuxIDMapping, own int, capable bool) way {
	switch {
	case capable:
		return byCapability
	case len(list) == 1 && list[0].Size == 1 && int64(list[0].HostID) == int64(own):
		return asOwn
	}
	return byTool
}

func (k kind) choose(list []specs.LinuxIDMapping) way {
	return k.way(list, k.own(), caps.Have(k.cap))
}

func (k kind) write(pid int, list []specs.LinuxIDMapping) error {
	how := k.choose(list)
	if how == byTool {
		return k.runTool(pid, list)
	}
	if how == asOwn && k.setgroup {
		if err := writeProc(pid, "setgroups", "deny"); err != nil {
			return fmt.Errorf("deny setgroups: %w", err)
		}
	}
	if err := writeProc(pid, k.file, text(list)); err != nil {
		return fmt.Errorf("write %s: %w", k.file, err)
	}
	return nil
}

func writeProc(pid int, file, value string) error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/%s", pid, file), []byte(value), 0)
}

func text(list []specs.LinuxIDMapping) string {
	var b strings.Builder
	for _, m := range list {
		fmt.Fprintf(&b, "%d %d %d\n", m.ContainerID, m.HostID, m.Size)
	}
	return b.String()
}
