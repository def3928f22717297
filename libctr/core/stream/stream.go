// Package stream names two-way streams of objects between a client of the core and a
// call that it makes: the client opens a stream under an id of its choice and names it in
// the call, which then sends and receives on it. Ids belong to the namespace of ctx.
package stream

import (
	"context"

	"github.com/containerd/typeurl/v2"
)

// Stream carries objects both ways, in order. One may send while another receives.
type Stream interface {
	Send(typeurl.Any) error
	// Recv returns io.EOF after the other side's last object.
	Recv() (typeurl.Any, error)
	// Close tells the other side that nothing more comes; on the core's side it ends the
	// stream. Closing again does nothing.
	Close() error
}

// Creator opens streams: a client's side.
type Creator interface {
	// Create opens a stream; the core knows it when Create returns. It lives until both
	// sides have ended it or ctx is over. An id in use is AlreadyExists.
	Create(ctx context.Context, id string) (Stream, error)
}

// Getter finds what clients have opened: the core's side.
type Getter interface {
	Get(ctx context.Context, id string) (Stream, error) // NotFound
}
