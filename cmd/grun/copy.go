package main

import (
	"errors"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// maxLate bounds what is still carried of a stream after its process has ended:
// more than a pipe or a terminal holds.
const maxLate = 4 << 20

// copyFile carries from to to until the end, an error, or interrupt.
func copyFile(to, from *os.File) {
	_, err := io.Copy(to, struct{ io.Reader }{from})
	if errors.Is(err, os.ErrDeadlineExceeded) {
		copyRest(to, from)
	}
}

// interrupt ends copyFile of from once what is there already is carried. Where
// the file can't be interrupted, the copy ends with the stream.
func interrupt(from *os.File) { from.SetReadDeadline(time.Unix(1, 0)) }

// copyRest carries what can be read without waiting.
func copyRest(to, from *os.File) {
	conn, err := from.SyscallConn()
	if err != nil {
		return
	}
	buf := make([]byte, 32<<10)
	for total := 0; total < maxLate; {
		n := 0
		if cerr := conn.Control(func(fd uintptr) { n, err = unix.Read(int(fd), buf) }); cerr != nil {
			return
		}
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		if _, err := to.Write(buf[:n]); err != nil {
			return
		}
		total += n
	}
}
