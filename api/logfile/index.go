package logfile

import (
	"encoding/binary"
	"os"

	"golang.org/x/sys/unix"
)

// firstName is the extended attribute that holds the number of the log's entries before
// those of a file, in big endian, so that a reader who comes late can count what has
// gone. It goes where the file goes.
const firstName = "trusted.gantry.first"

// SetFirst notes how many entries of the log come before those of f. It fails on a file
// system without extended attributes.
func SetFirst(f *os.File, n uint64) error {
	return unix.Fsetxattr(int(f.Fd()), firstName, binary.BigEndian.AppendUint64(nil, n), 0)
}

// First returns what SetFirst has noted; false when that is nothing.
func First(f *os.File) (n uint64, ok bool) {
	var b [8]byte
	if size, err := unix.Fgetxattr(int(f.Fd()), firstName, b[:]); err != nil || size != len(b) {
		return 0, false
	}
	return binary.BigEndian.Uint64(b[:]), true
}
