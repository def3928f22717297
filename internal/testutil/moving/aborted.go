package moving

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	transfertypes "github.com/containerd/containerd/api/types/transfer"
	"github.com/containerd/typeurl/v2"

	"gantry/libctr/client"
	"gantry/libctr/core/content"
	"gantry/libctr/core/transfer"
)

// Aborted opens streams of every kind and leaves each in the midst: n says which time it
// is.
func Aborted(ctx context.Context, socket string, n int) error {
	return with(ctx, socket, func(ctx context.Context, core *client.Client) error {
		return errors.Join(abortStream(ctx, core, n), abortEvents(ctx, core), abortImport(ctx, core), abortWriter(ctx, core))
	})
}

// abortStream opens one that no call ever uses.
func abortStream(ctx context.Context, core *client.Client, n int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := core.Streams().Create(ctx, fmt.Sprint("aborted", n))
	if err != nil {
		return err
	}
	a, err := typeurl.MarshalAny(&transfertypes.Data{Data: []byte("data")})
	if err != nil {
		return err
	}
	return s.Send(a)
}

func abortEvents(ctx context.Context, core *client.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	core.Events().Subscribe(ctx, `topic=="/aborted"`)
	return nil
}

// cut is a tar that breaks off.
type cut struct {
	io.Reader
	cancel context.CancelFunc
}

func (c cut) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	if err == io.EOF {
		c.cancel()
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func abortImport(ctx context.Context, core *client.Client) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tar := cut{strings.NewReader(strings.Repeat("\x00", 100)), cancel}
	if err := core.Transfers().Transfer(ctx, &transfer.Import{Stream: tar}, &transfer.ImageStore{Name: "x"}, transfer.Options{}); err == nil {
		return errors.New("a cut tar was imported")
	}
	return nil
}

func abortWriter(ctx context.Context, core *client.Client) error {
	under, cancel := context.WithCancel(ctx)
	w, err := core.Content().Writer(under, content.WriterOptions{Ref: "aborted"})
	if err != nil {
		cancel()
		return err
	}
	_, err = w.Write([]byte("data"))
	cancel()
	return errors.Join(err, drop(ctx, core))
}

// drop aborts the ingest, once the core has noticed that its writer has gone.
func drop(ctx context.Context, core *client.Client) error {
	return core.Content().Abort(ctx, "aborted")
}
