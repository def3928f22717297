package boot

import (
	"bytes"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// restAfter is when a shim has most likely started its container and waits for its end.
const restAfter = time.Second

// restLater gives back, once, what only boot, create and start needed.
func restLater() { time.AfterFunc(restAfter, unmapProgram) }

// unmapProgram forgets where the pages of the program's code and constants are, 7 MiB
// of them; an idle shim asks for a few anew. The pages stay in the page cache, for all
// shims: what is saved is the tables, and the share in the pages that each is charged.
func unmapProgram() {
	smaps, err := os.ReadFile("/proc/self/smaps")
	if err != nil {
		return
	}
	for _, m := range constants(smaps) {
		unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED) // on failure they stay mapped
	}
}

// mapping is a range of addresses.
type mapping struct{ from, to uintptr }

// constants are the mappings of files that nobody may write and that hold nothing but
// the file: a linker may have written what is now read-only, and that must stay.
func constants(smaps []byte) (list []mapping) {
	var m mapping
	var readOnly bool
	for line := range bytes.Lines(smaps) {
		if from, to, perms, inode, ok := parseMapping(line); ok {
			m, readOnly = mapping{from, to}, perms[1] == '-' && inode != 0
			continue
		}
		if field, value, _ := bytes.Cut(line, []byte(":")); readOnly && string(field) == "Anonymous" && string(bytes.TrimSpace(value)) == "0 kB" {
			list = append(list, m)
		}
	}
	return list
}

// parseMapping reads a mapping's first line, which is that of /proc/self/maps.
func parseMapping(line []byte) (from, to uintptr, perms string, inode uint64, ok bool) {
	var offset, major, minor uint64
	n, _ := fmt.Sscanf(string(line), "%x-%x %4s %x %x:%x %d", &from, &to, &perms, &offset, &major, &minor, &inode)
	return from, to, perms, inode, n == 7
}
