package container

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// openInit opens the record's process; nil when it is gone.
func (r *record) openInit() *os.File {
	fd, err := unix.PidfdOpen(r.Pid, 0)
	if err != nil {
		return nil
	}
	if ticks, alive := startTime(r.Pid); !alive || ticks != r.StartTime {
		unix.Close(fd)
		return nil
	}
	return os.NewFile(uintptr(fd), "pidfd")
}

// lend gives do the descriptor of f, which cannot be closed and reused until do
// returns. A nil or closed file is an error.
func lend(f *os.File, do func(fd int) error) error {
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := conn.Control(func(fd uintptr) { err = do(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

// dup gives a descriptor of one's own.
func dup(f *os.File) (own *os.File, err error) {
	err = lend(f, func(fd int) error {
		n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err == nil {
			own = os.NewFile(uintptr(n), f.Name())
		}
		return err
	})
	return own, err
}

// ended says whether the process of a pidfd has ended, reaped or not. A closed
// pidfd is that of a container that has been deleted.
func ended(pidfd *os.File) bool {
	over := true
	lend(pidfd, func(fd int) error {
		n, err := poll(fd, 0)
		over = err != nil || n > 0
		return nil
	})
	return over
}

// waitEnd waits until the process of pidfd has ended.
func waitEnd(ctx context.Context, pidfd *os.File, max time.Duration) bool {
	for deadline := time.Now().Add(max); ctx.Err() == nil && time.Now().Before(deadline); {
		over := true
		lend(pidfd, func(fd int) error {
			n, err := poll(fd, 100)
			over = err != nil || n > 0
			return nil
		})
		if over {
			return true
		}
	}
	return ended(pidfd)
}

// poll waits up to ms milliseconds until fd is readable.
func poll(fd, ms int) (n int, err error) {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		if n, err = unix.Poll(fds, ms); err != unix.EINTR {
			return n, err
		}
	}
}
