package rootfs

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// aside runs f on a thread that ends with it, and takes its namespaces along.
func aside(f func() error) error {
	out := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // never ends, and /proc/self speaks of it
			defer runtime.UnlockOSThread()
			out <- aside(f)
			return
		}
		out <- f() // never unlocked
	}()
	return <-out
}
