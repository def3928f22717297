package integrationcli

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netns"

	"gantry/api/thread"
)

// inNetns runs f in the network namespace of a process; sockets that f opens stay there.
func inNetns[T any](t *testing.T, pid int, f func() (T, error)) T {
	t.Helper()
	var v T
	var err error
	thread.Apart(func() {
		var ns netns.NsHandle
		if ns, err = netns.GetFromPid(pid); err != nil {
			return
		}
		defer ns.Close()
		if err = netns.Set(ns); err == nil {
			v, err = f()
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// echoIn answers what it gets, on TCP and UDP ports of a container's namespace, until
// the test ends.
func echoIn(t *testing.T, pid int, ports ...string) {
	t.Helper()
	for _, port := range ports {
		l := inNetns(t, pid, func() (net.Listener, error) { return net.Listen("tcp4", ":"+port) })
		t.Cleanup(func() { l.Close() })
		go func() { // ends with the listener
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				go func() { defer c.Close(); io.Copy(c, c) }() // ends with its client
			}
		}()
		p := inNetns(t, pid, func() (net.PacketConn, error) { return net.ListenPacket("udp4", ":"+port) })
		t.Cleanup(func() { p.Close() })
		go func() { // ends with the socket
			buf := make([]byte, 64)
			for {
				n, from, err := p.ReadFrom(buf)
				if err != nil {
					return
				}
				p.WriteTo(buf[:n], from)
			}
		}()
	}
}

// prober asks echo servers every few milliseconds, each over new connections and over
// one that it keeps.
type prober struct {
	stop chan struct{}
	work sync.WaitGroup

	mu    sync.Mutex
	tries int
	errs  []error // the first few
}

// maxLost is how many datagrams a lane may lose in its whole time: a busy machine may
// lose one.
const maxLost = 2

// probe starts to ask; addresses are "tcp 127.0.0.1:80".
func probe(addresses ...[2]string) *prober {
	p := &prober{stop: make(chan struct{})}
	for _, a := range addresses {
		p.work.Go(func() { p.lane(a, false) })
		p.work.Go(func() { p.lane(a, true) })
	}
	return p
}

func (p *prober) lane(a [2]string, keep bool) {
	var conn net.Conn
	lost := 0
	pause := time.Duration(scale(5, 10)) * time.Millisecond
	if !keep && a[0] == "udp" { // whoever relays remembers each client for a while
		pause *= 5
	}
	for {
		select {
		case <-p.stop:
			if conn != nil {
				conn.Close()
			}
			return
		case <-time.After(pause):
		}
		var err error
		if conn == nil {
			conn, err = net.DialTimeout(a[0], a[1], 10*time.Second)
		}
		if err == nil {
			err = pingPong(conn)
		}
		for ; a[0] == "udp" && errors.Is(err, os.ErrDeadlineExceeded) && lost < maxLost; lost++ {
			err = pingPong(conn)
		}
		p.note(a, keep, err)
		if conn != nil && (err != nil || !keep) {
			conn.Close()
			conn = nil
		}
	}
}

func pingPong(c net.Conn) error {
	patience := 10 * time.Second
	if c.LocalAddr().Network() == "udp" {
		patience /= 2
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "ping"); err != nil {
		return err
	}
	buf := make([]byte, 4)
	if _, err := io.ReadFull(c, buf); err != nil {
		return err
	}
	if string(buf) != "ping" {
		return fmt.Errorf("the answer is %q", buf)
	}
	return nil
}

func (p *prober) note(a [2]string, kept bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tries++
	if err != nil && len(p.errs) < 20 {
		what := "new"
		if kept {
			what = "kept"
		}
		p.errs = append(p.errs, fmt.Errorf("%s %s connection to %s: %w", what, a[0], a[1], err))
	}
}

// end stops asking and returns how often it was asked, and what failed.
func (p *prober) end() (int, error) {
	close(p.stop)
	p.work.Wait()
	return p.tries, errors.Join(p.errs...)
}
