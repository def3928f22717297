package process

import (
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// capture keeps the beginning of what a process writes to a pipe, and drops the rest.
type capture struct {
	r, w  *os.File
	limit int
	done  chan struct{} // closed when the copying has ended
	begun bool

	kept []byte // done's, then finish's
	cut  bool
}

func newCapture(limit int) (*capture, error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, fmt.Errorf("pipe: %w", err)
	}
	if err := unix.SetNonblock(p[0], true); err != nil {
		unix.Close(p[0])
		unix.Close(p[1])
		return nil, fmt.Errorf("pipe: %w", err)
	}
	return &capture{
		r: os.NewFile(uintptr(p[0]), "pipe"), w: os.NewFile(uintptr(p[1]), "pipe"), limit: limit, done: make(chan struct{}),
	}, nil
}

// begin reads, when the process has its end; the pipe's end or finish ends that.
func (c *capture) begin() {
	c.w.Close()
	c.begun = true
	go func() {
		defer close(c.done)
		for c.read() == nil {
		}
	}()
}

// scratch is how much is read at once.
const scratch = 1 << 10

func (c *capture) read() error {
	var buf [scratch]byte
	n, err := c.r.Read(buf[:])
	keep := min(n, c.limit-len(c.kept))
	c.kept = append(c.kept, buf[:keep]...)
	c.cut = c.cut || keep < n
	return err
}

// most is what a pipe may hold.
const most = 1 << 20

// finish takes what the dead process has written, and ends the reading although others
// may hold the pipe.
func (c *capture) finish() (kept []byte, cut bool) {
	c.r.SetReadDeadline(time.Unix(1, 0))
	<-c.done
	if rc, err := c.r.SyscallConn(); err == nil {
		rc.Control(func(fd uintptr) { c.rest(int(fd)) })
	}
	return c.kept, c.cut
}

// rest reads what is there until there is enough.
func (c *capture) rest(fd int) {
	var buf [scratch]byte
	for left := most; left > 0 && !c.cut; {
		n, err := unix.Read(fd, buf[:])
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			return
		}
		keep := min(n, c.limit-len(c.kept))
		c.kept = append(c.kept, buf[:keep]...)
		c.cut = keep < n
		left -= n
	}
}

func (c *capture) close() {
	c.r.Close()
	c.w.Close()
	if c.begun {
		<-c.done
	}
}
