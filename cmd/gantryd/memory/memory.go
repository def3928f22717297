// Package memory gives back what a process at rest does not need.
package memory

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ballast counts as part of the heap, but nothing ever touches it, so it is no memory. It
// lets a small heap grow by some 20 MiB between two collections instead of 4: at
// thousands of requests a second these would take a third of the time. What grew is
// given back once it is quiet.
var ballast = make([]byte, 16<<20)

// Rest is for how long nobody asked anything when a process is trimmed.
const Rest = 1500 * time.Millisecond

// trimFrom is how much of the heap must be in nobody's use to be worth a collection.
const trimFrom = 1 << 20

// Trim gives back the free heap and unmaps the program's own code and constants: the
// start, and each rare request, runs code all over a large binary, and every page it
// touched brought its neighbours. What is needed again comes back from the page cache
// with minor faults.
func Trim(log *slog.Logger) {
	if unusedHeap() > trimFrom {
		debug.FreeOSMemory()
	}
	if err := unmapProgram(); err != nil {
		log.Debug("give memory back", "err", err)
	}
}

// unusedHeap returns the bytes of garbage and of free space that the system could have back.
func unusedHeap() uint64 {
	s := []metrics.Sample{
		{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/gc/heap/live:bytes"}, {Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(s)
	objects, live, free := s[0].Value.Uint64(), s[1].Value.Uint64(), s[2].Value.Uint64()
	runtime.KeepAlive(&ballast)
	return objects - min(live, objects) + free
}

func unmapProgram() error {
	exe, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return err
	}
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		return err
	}
	defer f.Close()
	regions, err := untouched(f, exe)
	if err != nil {
		return err
	}
	for _, r := range regions {
		_, _, errno := unix.Syscall(unix.SYS_MADVISE, r.from, r.to-r.from, unix.MADV_DONTNEED)
		if errno != 0 {
			return os.NewSyscallError("madvise", errno)
		}
	}
	return nil
}

// region is a range of addresses.
type region struct{ from, to uintptr }

// untouched returns the read-only mappings of the file exe in which nothing was ever
// written (a linker's relocations, a debugger's breakpoints), as smaps tells: only these
// read from the file again what was unmapped.
func untouched(smaps io.Reader, exe string) (found []region, err error) {
	var (
		now   region
		ours  bool
		lines = bufio.NewScanner(smaps)
	)
	for lines.Scan() {
		f := strings.Fields(lines.Text())
		switch {
		case len(f) >= 5 && !strings.HasSuffix(f[0], ":"):
			if _, err := fmt.Sscanf(f[0], "%x-%x", &now.from, &now.to); err != nil {
				return nil, fmt.Errorf("read smaps %q: %w", f[0], err)
			}
			ours = len(f) == 6 && f[5] == exe && (f[1] == "r--p" || f[1] == "r-xp")
		case ours && len(f) >= 2 && f[0] == "Anonymous:" && f[1] == "0":
			found = append(found, now)
		}
	}
	return found, lines.Err()
}
