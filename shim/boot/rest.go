package boot

import (
	"bytes"
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
	room, err := unix.Mmap(-1, 0, maxSmaps, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return
	}
	defer unix.Munmap(room) // the heap would keep it
	for _, m := range constants(readInto(room, "/proc/self/smaps")) {
		unix.Syscall(unix.SYS_MADVISE, m.from, m.to-m.from, unix.MADV_DONTNEED) // on failure they stay mapped
	}
}

// maxSmaps is more than a shim's mappings need, some 50 KiB; what does not fit is
// left as it is.
const maxSmaps = 256 << 10

// readInto reads a file as far as there is room, or it goes well.
func readInto(room []byte, path string) []byte {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	n := 0
	for n < len(room) {
		m, err := unix.Read(fd, room[n:])
		if err != nil || m == 0 {
			break
		}
		n += m
	}
	return room[:n]
}

// mapping is a range of addresses.
type mapping struct{ from, to uintptr }

// constants are the mappings of files that nobody may write and that hold nothing but
// the file: a linker may have written what is now read-only, and that must stay.
func constants(smaps []byte) (list []mapping) {
	var m mapping
	var readOnly bool
	for line := range bytes.Lines(smaps) {
		if at, file, ok := parseMapping(line); ok {
			m, readOnly = at, file
			continue
		}
		if field, value, _ := bytes.Cut(line, []byte(":")); readOnly && string(field) == "Anonymous" && string(bytes.TrimSpace(value)) == "0 kB" {
			list = append(list, m)
		}
	}
	return list
}

// parseMapping reads a mapping's first line, which is that of /proc/self/maps:
//
//	00400000-00754000 r-xp 00000000 00:2f 1234   /path
//
// and says whether it is of a file and nobody may write it.
func parseMapping(line []byte) (m mapping, readOnly, ok bool) {
	addresses, rest, _ := bytes.Cut(line, []byte(" "))
	from, to, ok := bytes.Cut(addresses, []byte("-"))
	if !ok || !number(from, &m.from) || !number(to, &m.to) {
		return m, false, false
	}
	perms, rest, _ := bytes.Cut(rest, []byte(" "))
	_, rest, _ = bytes.Cut(rest, []byte(" ")) // offset
	device, _, _ := bytes.Cut(rest, []byte(" "))
	return m, len(perms) > 1 && perms[1] == '-' && len(device) > 0 && string(device) != "00:00", true
}

// number reads hexadecimal digits; strconv would want a string.
func number(text []byte, n *uintptr) bool {
	for _, c := range text {
		digit := bytes.IndexByte([]byte("0123456789abcdef"), c)
		if digit < 0 {
			return false
		}
		*n = *n<<4 | uintptr(digit)
	}
	return len(text) > 0
}
