package mount

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
)

// tempPrefix begins the names of temporary mounts' directories; the process follows, as
// PID.START-, so that those that its death leaves can be told.
const tempPrefix = "gantry-mount-"

func makeTemp() (string, error) {
	start, err := startTime(os.Getpid())
	if err != nil {
		return "", err
	}
	return os.MkdirTemp("", fmt.Sprintf("%s%d.%d-", tempPrefix, os.Getpid(), start))
}

// SweepTemp takes away the temporary mounts of processes that are no more.
func SweepTemp() error {
	paths, err := filepath.Glob(filepath.Join(os.TempDir(), tempPrefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range paths {
		var pid int
		var start uint64
		if n, _ := fmt.Sscanf(filepath.Base(path), tempPrefix+"%d.%d-", &pid, &start); n != 2 {
			continue
		}
		if now, err := startTime(pid); err == nil && now == start {
			continue
		}
		// Anybody may have made it: what is no mount point is not unmounted, nor is more
		// than an empty directory removed.
		errs = append(errs, Unmount(path))
		_ = os.Remove(path)
	}
	return errors.Join(errs...)
}

// startTime is when a process was started, in clock ticks since the boot.
func startTime(pid int) (uint64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	const after = 19                                         // of the fields behind the name
	f := bytes.Fields(raw[bytes.LastIndexByte(raw, ')')+1:]) // the name may hold anything
	if len(f) <= after {
		return 0, fmt.Errorf("/proc/%d/stat is cut off", pid)
	}
	return strconv.ParseUint(string(f[after]), 10, 64)
}
