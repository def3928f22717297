package boot

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ownCores keeps this process and all that it will start from sharing a core of the CPU
// with anybody else, when the engine asks for that (environment variable SCHED_CORE): each
// shim makes a cookie of its own. Where the kernel or the processor knows no such thing
// nothing is shared in that way either, or nothing can be done.
func ownCores() error {
	if os.Getenv("SCHED_CORE") == "" {
		return nil
	}
	err := unix.Prctl(unix.PR_SCHED_CORE, unix.PR_SCHED_CORE_CREATE, 0, unix.PR_SCHED_CORE_SCOPE_THREAD_GROUP, 0)
	if err == nil || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EINVAL) {
		return nil
	}
	return fmt.Errorf("enable core scheduling: %w", err)
}
