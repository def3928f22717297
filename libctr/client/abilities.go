package client

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"

	"golang.org/x/sys/unix"

	"gantry/libctr/core/diff"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/core/task"
)

// Abilities are what one core can do for its client and another can't. The zero value
// is what every containerd can. They are found out once, and one value holds them all:
// who needs one asks for it by name, never for whose core it is.
type Abilities struct {
	// Shim is the runtime by which the core runs our own shim, "" where it can't: then
	// only shims that the core has by itself are left.
	Shim string
	// ShimPath is where the core finds its binary, "" when the name is enough.
	ShimPath string
	// KeepsExits is whether Wait answers how a task ended whose shim has died, and KILL
	// ends one whose shim is stuck. Where it does not, an event has told the exit, once.
	KeepsExits bool
	// MapsIDs is whether the snapshotter heeds the labels that ask for a container's ids.
	MapsIDs bool
	// MapsLayers is whether a layer that the core makes of such a container's files has the
	// ids of the inside.
	MapsLayers bool
	// Rebases are the snapshotters that put a snapshot onto its parent when it is committed
	// (snapshot.Rebaser) without losing anything: layers for them may be unpacked in any
	// order. containerd's lose what only a lower layer says of a directory.
	Rebases []string
}

// ownShim is the name by which our core runs the shim beside it.
const ownShim = "io.containerd.gantry.v2"

// Own are the abilities of our core.
var Own = Abilities{Shim: ownShim, KeepsExits: true, MapsIDs: true, MapsLayers: true, Rebases: []string{"overlayfs"}}

// Place is where a core and its client meet.
type Place struct {
	Address     string // the core's socket
	Shim        string // our shim's binary, as we see it
	Snapshotter string
}

// Discover finds out what a core can do, which answers.
//
// Ours says of itself that it runs our shim. Any other can be told to, since containerd
// 1.6, when it sees the same file as we at the shim's path; one that lives elsewhere, in a
// container for one, can't. The shim goes by the name of runc's there, whose options and
// checkpoints it knows: containerd 1.6 puts the checkpoints of all others into content.
func (c *Client) Discover(ctx context.Context, p Place) (Abilities, error) {
	var a Abilities
	plugins, err := c.Introspection().Plugins(ctx)
	if err != nil {
		return a, fmt.Errorf("list the core's plugins: %w", err)
	}
	for _, info := range plugins {
		has := func(capability string) bool { return slices.Contains(info.GetCapabilities(), capability) }
		a.KeepsExits = a.KeepsExits || has(task.CapabilityExits)
		a.MapsIDs = a.MapsIDs || info.GetID() == p.Snapshotter && has("remap-ids")
		a.MapsLayers = a.MapsLayers || has(diff.CapabilityMapIDs)
		if has(snapshot.CapabilityRebase) && has(snapshot.CapabilityDirectories) && info.GetInitErr() == nil {
			a.Rebases = append(a.Rebases, info.GetID())
		}
		if has(task.CapabilityShim) {
			a.Shim = ownShim
		}
	}
	if a.Shim != "" {
		return a, nil
	}
	pid, err := serverPID(ctx, p.Address)
	if err != nil {
		return a, fmt.Errorf("find out who serves the core: %w", err)
	}
	if seesFile(pid, p.Shim) {
		a.Shim, a.ShimPath = "io.containerd.runc.v2", p.Shim
	}
	return a, nil
}

// serverPID is the process that listens at a socket, 0 where we cannot see it.
func serverPID(ctx context.Context, path string) (int, error) {
	c, err := dialUnix(ctx, path)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	raw, err := c.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var credErr error
	if err := raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return 0, err
	}
	if credErr != nil {
		return 0, credErr
	}
	return int(cred.Pid), nil
}

// seesFile says whether a process has the same file as we at a path.
func seesFile(pid int, path string) bool {
	if pid <= 0 {
		return false
	}
	ours, err := os.Stat(path)
	if err != nil {
		return false
	}
	theirs, err := os.Stat("/proc/" + strconv.Itoa(pid) + "/root" + path)
	return err == nil && os.SameFile(ours, theirs)
}
