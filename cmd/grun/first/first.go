// Package first is what grun does before all else: where it is going to clone a process
// of a container it executes itself anew from a file that can't be written (see
// selfexe), and it sets the Go runtime to a life of milliseconds. Packages come up in the
// order of their paths, as far as their imports let them: this one is early, so that
// the first run brings few of them up in vain.
package first

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"

	"gantry/api/selfexe"
)

// One thread of Go is enough for one thing after the other, and saves waking others.
// What is allocated until a container runs is less than a collection costs.
func init() {
	if clones(os.Args[1:]) {
		if err := Protect(); err != nil {
			fmt.Fprintln(os.Stderr, "grun:", err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(-1)
	}
}

// Protect returns at once when grun runs from a file that can't be written, and otherwise
// executes it anew from one.
func Protect() error { return selfexe.Ensure("GOMAXPROCS=1", "GOGC=off") }

// Stay sets the Go runtime to a life of any length.
func Stay() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(100)
	}
}

// clones says whether a command line may clone a process of a container, which
// could then reach our executable. It may be wrong in the harmless direction. A start
// knows better when it knows the container.
func clones(args []string) bool {
	return slices.ContainsFunc(args, func(a string) bool {
		return a == "create" || a == "run" || a == "exec" || a == "restore"
	})
}
