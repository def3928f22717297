package transfer

import (
	"context"
	"fmt"

	transfertypes "github.com/containerd/containerd/api/types/transfer"
	"github.com/containerd/typeurl/v2"

	"gantry/api/errdefs"
	"gantry/libctr/core/stream"
	"gantry/libctr/core/transfer"
	"gantry/libctr/core/wire"
)

// credentials asks the client, one question at a time.
type credentials struct {
	stream stream.Stream
	turn   chan struct{} // holds a token while a question is open
}

// Get implements transfer.Credentials. A question that nobody waits for any more stays
// open: the next one would get its answer.
func (c *credentials) Get(ctx context.Context, ref, host string) (transfer.Secret, error) {
	select {
	case c.turn <- struct{}{}:
	case <-ctx.Done():
		return transfer.Secret{}, ctx.Err()
	}
	type answer struct {
		secret transfer.Secret
		err    error
	}
	answered := make(chan answer, 1)
	go func() { // ends with the answer, or with the stream
		s, err := c.ask(ref, host)
		<-c.turn
		answered <- answer{s, err}
	}()
	select {
	case a := <-answered:
		return a.secret, a.err
	case <-ctx.Done():
		return transfer.Secret{}, ctx.Err()
	}
}

func (c *credentials) ask(ref, host string) (none transfer.Secret, err error) {
	a, err := typeurl.MarshalAny(&transfertypes.AuthRequest{Host: host, Reference: ref})
	if err != nil {
		return none, err
	}
	if err := c.stream.Send(a); err != nil {
		return none, fmt.Errorf("ask for credentials for %s: %w", host, err)
	}
	a, err = c.stream.Recv()
	if err != nil {
		return none, fmt.Errorf("credentials for %s: %w", host, err)
	}
	var m transfertypes.AuthResponse
	if err := typeurl.UnmarshalTo(a, &m); err != nil {
		return none, errdefs.InvalidArgument("credentials for %s: %w", host, err)
	}
	return wire.FromSecret(&m), nil
}
