// Package shimlog is a shim's log for tests of who reads it.
package shimlog

import (
	"os"
	"testing"

	"gantry/api/logfile"
	"gantry/api/shimwire"
	"gantry/shim/output"
)

// Open opens the log as a shim does; the caller closes it. What is compressed is
// compressed in this process.
func Open(t testing.TB, u shimwire.LogURI) output.Output {
	t.Helper()
	out, err := output.Open(u, output.Host{Compress: func(f logfile.Format, dst, src *os.File) error { return f.Compress(dst, src) }})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
