package boot

import (
	"os"
	"runtime"
	"runtime/debug"
)

// A shim does little and lives long: what counts is the memory that it rests with.
// Measured over ten idle shims with their containers:
const (
	// procs is how many threads run Go code at a time. Each has its own set of half-used
	// memory spans: the second costs a quarter of a MiB. Streams are copied as fast
	// with one, since the reader's and the writer's are other processes.
	procs = 1
	// gcPercent lets the first collection come at 2 MiB of heap. An idle shim stays below
	// that, and is better off: the collector's own tables cost 0.7 MiB, more than it
	// finds. One that runs health checks for months stays at 2 MiB instead of 4.
	gcPercent = 50
)

// tune sets the Go runtime up, where the environment does not.
func tune() {
	runtime.GOMAXPROCS(procs)
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
