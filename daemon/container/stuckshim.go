package container

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// endShim kills the shim of a container that runs, and does not answer, for a core that
// would wait for it. The core sees it end, and buries the task.
func endShim(c *Snapshot) error {
	shim, err := parentOf(c.Pid)
	if err != nil {
		return fmt.Errorf("look for the shim: %w", err)
	}
	fd, err := unix.PidfdOpen(shim, 0)
	if err != nil {
		return fmt.Errorf("look for the shim: %w", err)
	}
	defer unix.Close(fd)
	if !isShimOf(shim, c.ID) { // what the descriptor is of, since it lives
		return fmt.Errorf("process %d, the parent of the container's, is not its shim", shim)
	}
	return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
}

func parentOf(pid int) (int, error) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return 0, err
	}
	_, after, _ := bytes.Cut(raw[max(0, bytes.LastIndexByte(raw, ')')):], []byte(" ")) // the name before may hold anything
	f := strings.Fields(string(after))                                                 // state, parent, …
	if len(f) < 2 {
		return 0, fmt.Errorf("process %d: no parent told", pid)
	}
	return strconv.Atoi(f[1])
}

// isShimOf says whether a process is the shim of the task id, by its arguments.
func isShimOf(pid int, id string) bool {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return false
	}
	args := strings.Split(string(raw), "\x00")
	i := slices.Index(args, "-id")
	return strings.HasPrefix(filepath.Base(args[0]), "containerd-shim-") && i > 0 && i+1 < len(args) && args[i+1] == id
}
