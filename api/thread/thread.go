// Package thread runs what changes a thread on one that is thrown away.
package thread

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// Apart runs f on a thread that ends with it, and returns when f has. It is never the
// process's first thread: that one would stay as f has changed it, in another namespace
// for one, and it is what /proc/self shows.
func Apart(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and not back: the thread ends with the goroutine
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			Apart(f) // not here, for this thread is kept meanwhile
			return
		}
		f()
	}()
	<-done
}
