package client

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
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
	// KeepsExits is whether Wait answers how a task ended whose shim has died. Where it
	// does not, an event has told it, once.
	KeepsExits bool
	// Rebases are the snapshotters that put a snapshot onto its parent when it is committed
	// (snapshot.Rebaser): layers for them may be unpacked in any order.
	Rebases []string
}

// Own are the abilities of our core, which has our shim beside it.
var Own = Abilities{Shim: "io.containerd.gantry.v2", KeepsExits: true, Rebases: []string{"overlayfs"}}

// Discover finds out what the core at a socket, which answers, can do. shim is the path
// of our shim's binary: a core that sees the same file there can be told to run it, as
// all containerds since 1.6 can. One that lives elsewhere, in a container for one, can't.
// Its name is that of runc's shim, whose options and checkpoints ours knows: what else it
// is called containerd 1.6 takes for a shim whose checkpoints have to go into content.
func Discover(ctx context.Context, address, shim string) (Abilities, error) {
	pid, err := serverPID(ctx, address)
	if err != nil {
		return Abilities{}, fmt.Errorf("find out who serves the core: %w", err)
	}
	if seesFile(pid, shim) {
		return Abilities{Shim: "io.containerd.runc.v2", ShimPath: shim}, nil
	}
	return Abilities{}, nil
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
