package httputil

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// awaitTaken waits, for a bounded time, until the client has read all that was sent. On a
// unix socket the kernel knows; on TCP it knows only of what has arrived.
func awaitTaken(c net.Conn, limit time.Duration) {
	sc, ok := socket(c).(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	taken := true
	ask := func(fd uintptr) {
		n, err := unix.IoctlGetInt(int(fd), unix.TIOCOUTQ) // SIOCOUTQ, by its other name
		taken = err != nil || n <= 0
	}
	const shortest, longest = 50 * time.Microsecond, 5 * time.Millisecond
	for wait, end := shortest, time.Now().Add(limit); time.Now().Before(end); wait = min(2*wait, longest) {
		if err := raw.Control(ask); err != nil || taken || hungUp(c) {
			return
		}
		time.Sleep(wait)
	}
}
