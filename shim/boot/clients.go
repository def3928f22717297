package boot

import (
	"context"
	"net"
	"sync"

	"github.com/containerd/ttrpc"
)

// clients counts the connections of a server. The server itself cannot be asked: it
// takes a connection for idle, and closes it, while its first answer is on its way.
type clients struct {
	ttrpc.Handshaker

	mu   sync.Mutex
	n    int
	left chan struct{} // gets a token when the last one has gone
}

func newClients(h ttrpc.Handshaker) *clients {
	return &clients{Handshaker: h, left: make(chan struct{}, 1)}
}

// Handshake implements ttrpc.Handshaker.
func (c *clients) Handshake(ctx context.Context, conn net.Conn) (net.Conn, any, error) {
	conn, who, err := c.Handshaker.Handshake(ctx, conn)
	if err != nil {
		return nil, nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n++
	return &client{Conn: conn, of: c}, who, nil
}

// wait returns when no connection is left, or with ctx.
func (c *clients) wait(ctx context.Context) {
	for {
		c.mu.Lock()
		n := c.n
		c.mu.Unlock()
		if n == 0 {
			return
		}
		select {
		case <-c.left:
		case <-ctx.Done():
			return
		}
	}
}

type client struct {
	net.Conn
	of   *clients
	once sync.Once
}

func (c *client) Close() error {
	c.once.Do(func() {
		c.of.mu.Lock()
		defer c.of.mu.Unlock()
		if c.of.n--; c.of.n == 0 {
			select {
			case c.of.left <- struct{}{}:
			default:
			}
		}
	})
	return c.Conn.Close()
}
