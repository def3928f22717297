package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// refusal bounds, twice, how long a client that is refused may keep the others waiting.
const refusal = 50 * time.Millisecond

// spared is a listener that answers when the process is out of descriptors: it holds a
// spare one, with which it takes what it can't serve and says so. Without it such a
// client waits in the backlog, for ever when it is its own other connections that hold
// the descriptors, as those of "docker run" do. Accept is for one goroutine.
type spared struct {
	net.Listener
	open  func() (*os.File, error) // a spare descriptor
	spare *os.File                 // nil when it is lent to Accept
}

func withSpare(l net.Listener) *spared {
	s := &spared{Listener: l, open: func() (*os.File, error) { return os.Open(os.DevNull) }}
	s.keep()
	return s
}

// keep takes a spare descriptor where there is none, and says whether there is one now.
func (s *spared) keep() bool {
	if s.spare == nil {
		s.spare, _ = s.open()
	}
	return s.spare != nil
}

func (s *spared) lend() {
	s.spare.Close()
	s.spare = nil
}

// Accept returns a connection beside which there is still a spare descriptor.
func (s *spared) Accept() (net.Conn, error) {
	for {
		c, err := s.Listener.Accept()
		if short(err) && s.spare != nil {
			s.lend()
			c, err = s.Listener.Accept()
		}
		if err != nil {
			return nil, err
		}
		if s.keep() {
			return c, nil
		}
		refuse(c)
		s.keep()
	}
}

func short(err error) bool { return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) }

// refuse answers whatever c asks once it has asked, for a client takes no answer before,
// and waits a little for it to read that.
func refuse(c net.Conn) {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(refusal))
	_, _ = c.Read(make([]byte, 4<<10))
	_ = c.SetDeadline(time.Now().Add(refusal))
	body := fmt.Sprintf("{\"message\":%q}\n", unix.EMFILE.Error())
	_, err := fmt.Fprintf(c, "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"+
		"Content-Length: %d\r\nConnection: close\r\n\r\n%s", len(body), body)
	if half, ok := c.(interface{ CloseWrite() error }); ok && err == nil && half.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, c, 64<<10) // closed with unread input it would be cut off
	}
}
