package netns

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"gantry/api/failpoint"
	"gantry/api/thread"
	"gantry/daemon/userns"
)

// CreateOwned is Create for a network namespace that belongs to a new user namespace with
// the ids of m, whose file is user: in one that belongs to the host's, nobody there may
// show sysfs or set net.* sysctls. Each name remains until Remove.
func CreateOwned(path, user string, m userns.Mapping, inside func() error) (*os.File, error) {
	f, err := createOwned(path, user, m, inside)
	if err != nil {
		return nil, fmt.Errorf("make network namespace %s: %w", path, err)
	}
	return f, nil
}

func createOwned(path, user string, m userns.Mapping, inside func() error) (_ *os.File, err error) {
	for _, p := range []string{user, path} {
		if err := makePoint(p); err != nil {
			return nil, err
		}
		defer func() {
			if err != nil {
				Remove(p) //nolint:errcheck // err says more
			}
		}()
	}
	failpoint.Hit("daemon/network/netns.create-owned.files")
	err = userns.Hold(m, unix.CLONE_NEWNET, func(pid int) error {
		if err := pin(pid, "user", user); err != nil {
			return err
		}
		failpoint.Hit("daemon/network/netns.create-owned.user-mounted")
		return pin(pid, "net", path)
	})
	if err != nil {
		return nil, err
	}
	failpoint.Hit("daemon/network/netns.create-owned.mounted")
	var f *os.File
	thread.Apart(func() { f, err = enter(path, inside) })
	return f, err
}

// pin mounts a namespace of a process on path.
func pin(pid int, kind, path string) error {
	if err := unix.Mount(fmt.Sprintf("/proc/%d/ns/%s", pid, kind), path, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind mount %s namespace: %w", kind, err)
	}
	return nil
}

// enter runs inside on the calling thread, in the network namespace at path.
func enter(path string, inside func() error) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if err := unix.Setns(int(f.Fd()), unix.CLONE_NEWNET); err != nil {
		f.Close()
		return nil, fmt.Errorf("setns: %w", err)
	}
	if err := inside(); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
