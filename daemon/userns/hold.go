package userns

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// Hold makes a user namespace with the ids of m, and what unshare names (CLONE_NEW* flags)
// owned by it, and calls use with a process in them, which ends afterwards: a namespace
// stays only by what use has made of /proc/<pid>/ns.
func Hold(m Mapping, unshare uintptr, use func(pid int) error) error {
	// The process follows this thread: it is traced by it, and dies with it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// It stops before the first instruction of what it executes.
	p, err := os.StartProcess("/proc/self/exe", []string{"gantry-userns"}, &os.ProcAttr{
		Dir: "/",
		Sys: &syscall.SysProcAttr{
			Cloneflags: unix.CLONE_NEWUSER, Unshareflags: unshare,
			UidMappings: proc(m.UIDMaps), GidMappings: proc(m.GIDMaps), GidMappingsEnableSetgroups: true,
			Ptrace: true, Pdeathsig: syscall.SIGKILL,
		},
	})
	if err != nil {
		return fmt.Errorf("make user namespace: %w", err)
	}
	defer func() {
		p.Kill() //nolint:errcheck // waited for below
		p.Wait() //nolint:errcheck
	}()
	return use(p.Pid)
}

// opened keeps a user namespace for each mapping that was asked for, which are few: those
// of the configuration now and earlier.
var opened = struct {
	sync.Mutex
	files map[string]*os.File // guarded by Mutex
}{files: map[string]*os.File{}}

// Open returns a user namespace with the ids of m, for idmapped mounts. It stays open.
func Open(m Mapping) (*os.File, error) {
	key := text(m.UIDMaps) + " " + text(m.GIDMaps)
	opened.Lock()
	defer opened.Unlock()
	if f := opened.files[key]; f != nil {
		return f, nil
	}
	var f *os.File
	err := Hold(m, 0, func(pid int) (err error) {
		f, err = os.Open(fmt.Sprintf("/proc/%d/ns/user", pid))
		return err
	})
	if err == nil {
		opened.files[key] = f
	}
	return f, err
}
