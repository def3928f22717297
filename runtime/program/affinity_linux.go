package program

import (
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"
)

// pinned binds this goroutine to its thread and the thread to cpus, nil is
// wherever it may run now. A child that is cloned meanwhile inherits that. What undo
// can't make good it leaves to the thread's end.
func pinned(cpus *unix.CPUSet) (undo func(), err error) {
	runtime.LockOSThread()
	if cpus == nil {
		return runtime.UnlockOSThread, nil
	}
	var old unix.CPUSet
	if err = unix.SchedGetaffinity(0, &old); err == nil {
		err = unix.SchedSetaffinity(0, cpus)
	}
	if err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("set initial CPU affinity: %w", err)
	}
	return func() {
		if unix.SchedSetaffinity(0, &old) == nil {
			runtime.UnlockOSThread()
		}
	}, nil
}
