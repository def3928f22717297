// Package exitfile keeps in a bundle how its container has ended: a file "exit" with the
// pid, the status and the time in nanoseconds since 1970, in decimal, a space between.
// The shim writes it before it tells the exit; its delete command reads it when the shim
// has died.
package exitfile

import (
	"fmt"
	"os"
	"path/filepath"
	"time"

	"gantry/shim/reaper"
)

const name = "exit"

// Write makes the file, which is whole or can't be read. It is not synced: a bundle does
// not outlive a boot.
func Write(bundle string, e reaper.Exit) error {
	line := fmt.Appendf(nil, "%d %d %d\n", e.Pid, e.Status, e.At.UnixNano())
	return os.WriteFile(filepath.Join(bundle, name), line, 0o600)
}

// Read returns the exit; ok is false when none was written, or not to its end.
func Read(bundle string) (e reaper.Exit, ok bool) {
	raw, err := os.ReadFile(filepath.Join(bundle, name))
	if err != nil || len(raw) == 0 || raw[len(raw)-1] != '\n' {
		return e, false
	}
	var at int64
	if _, err := fmt.Sscanf(string(raw), "%d %d %d\n", &e.Pid, &e.Status, &at); err != nil {
		return e, false
	}
	e.At = time.Unix(0, at)
	return e, true
}
