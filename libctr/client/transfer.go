package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"math"
	"sync/atomic"
	"time"

	transferapi "github.com/containerd/containerd/api/services/transfer/v1"
	transfertypes "github.com/containerd/containerd/api/types/transfer"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	corestream "gantry/libctr/core/stream"
	"gantry/libctr/core/stream/bytestream"
	"gantry/libctr/core/transfer"
	"gantry/libctr/core/wire"
)

// Transfers moves images in the core.
func (c *Client) Transfers() transfer.Transferrer { return Transfers(c.conn) }

// Transfers is the same on a connection with this package's interceptors. A transfer's
// reader is left alone when the transfer fails: one that blocks keeps a goroutine.
func Transfers(conn grpc.ClientConnInterface) transfer.Transferrer {
	return transferrer{rpc: transferapi.NewTransferClient(conn), streams: Streams(conn)}
}

type transferrer struct {
	rpc     transferapi.TransferClient
	streams corestream.Creator
}

// settled is how long a transfer that is done waits for what a core has still to say. Ours
// has ended its streams by then; containerd 2 leaves those of exports open, so that one on
// which nothing has come for so long is taken for ended.
const settled = time.Second

// Transfer implements transfer.Transferrer.
func (t transferrer) Transfer(ctx context.Context, source, destination transfer.End, o transfer.Options) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil) // ends the streams
	m := &moving{ctx: ctx, fail: cancel, streams: t.streams}
	req := &transferapi.TransferRequest{Options: &transferapi.TransferOptions{}}
	if err := m.progress(req.Options, o.Progress); err != nil {
		return err
	}
	src, err := m.source(source)
	if err != nil {
		return err
	}
	dst, err := m.destination(destination)
	if err != nil {
		return err
	}
	for _, e := range []struct {
		to **anypb.Any
		m  proto.Message
	}{{&req.Source, src}, {&req.Destination, dst}} {
		a, err := typeurl.MarshalAny(e.m)
		if err != nil {
			return err
		}
		*e.to = wire.Any(a)
	}
	if _, err = t.rpc.Transfer(ctx, req); err != nil && ctx.Err() != nil {
		err = errors.Join(err, context.Cause(ctx))
	}
	return errors.Join(err, m.wait(err == nil))
}

// moving is one transfer: what it does beside the call.
type moving struct {
	ctx     context.Context
	fail    context.CancelCauseFunc
	streams corestream.Creator
	ends    []chan error // of what is to be over when the transfer is

	since atomic.Int64 // since when an export waits for more, Unix nanoseconds; never while it is written
	over  atomic.Bool  // nothing more is waited for
}

// open makes a stream with a name of its own.
func (m *moving) open(kind string) (id string, s corestream.Stream, err error) {
	id = kind + "-" + rand.Text()
	s, err = m.streams.Create(m.ctx, id)
	return id, s, err
}

// run does fn beside the call; wait waits for it.
func (m *moving) run(fn func() error) {
	end := make(chan error, 1)
	m.ends = append(m.ends, end)
	go func() { end <- fn() }() // ends with its stream
}

// wait waits for what is still coming, and returns how that went when it counts.
func (m *moving) wait(counts bool) error {
	m.since.Store(max(m.since.Load(), time.Now().UnixNano()))
	look := time.NewTicker(settled / 10)
	defer look.Stop()
	var errs []error
	for _, end := range m.ends {
		for waiting := true; waiting; {
			select {
			case err := <-end:
				errs, waiting = append(errs, err), false
			case now := <-look.C:
				if now.UnixNano()-m.since.Load() > int64(settled) {
					m.over.Store(true)
					m.fail(nil)
				}
			}
		}
	}
	if !counts {
		return nil
	}
	return errors.Join(errs...)
}

func (m *moving) progress(o *transferapi.TransferOptions, to func(transfer.Progress)) error {
	if to == nil {
		return nil
	}
	id, s, err := m.open("progress")
	if err != nil {
		return err
	}
	o.ProgressStream = id
	m.run(func() error {
		defer s.Close()
		for {
			a, err := s.Recv()
			if err != nil {
				return nil //nolint:nilerr // what was not told is no failure of the transfer
			}
			var p transfertypes.Progress
			if typeurl.UnmarshalTo(a, &p) == nil {
				to(wire.FromProgress(&p))
			}
		}
	})
	return nil
}

func (m *moving) source(e transfer.End) (proto.Message, error) {
	in, ok := e.(*transfer.Import)
	if !ok {
		return m.destination(e)
	}
	id, s, err := m.open("import")
	if err != nil {
		return nil, err
	}
	go func() { // ends with the reader, or at its next write after the transfer
		w, r := bytestream.NewWriter(s), &failing{Reader: in.Stream}
		_, err := io.Copy(w, r)
		if r.err != nil {
			m.fail(fmt.Errorf("read what is to be imported: %w", r.err))
			return
		}
		if err == nil {
			_ = w.Close() // else the core has ended it, and says why
		}
	}()
	return &transfertypes.ImageImportStream{Stream: id, MediaType: in.MediaType, ForceCompress: in.ForceCompress}, nil
}

func (m *moving) destination(e transfer.End) (proto.Message, error) {
	switch e := e.(type) {
	case *transfer.ImageStore:
		return wire.ImageStore(e), nil
	case *transfer.Registry:
		return m.registry(e)
	case *transfer.Export:
		id, s, err := m.open("export")
		if err != nil {
			return nil, err
		}
		m.run(func() error {
			defer s.Close()
			_, err := io.Copy(e.Stream, &noticed{bytestream.NewReader(s), &m.since})
			if m.over.Load() {
				err = nil
			}
			return errors.Join(err, e.Stream.Close())
		})
		return wire.Export(e, id), nil
	}
	return nil, errdefs.NotImplemented("unable to transfer with %s", e)
}

func (m *moving) registry(r *transfer.Registry) (proto.Message, error) {
	out := wire.Registry(r)
	if r.Credentials != nil {
		id, s, err := m.open("creds")
		if err != nil {
			return nil, err
		}
		out.Resolver.AuthStream = id
		go m.answer(s, r.Credentials) // ends with the stream
	}
	if r.Debug != transfer.DebugNone && r.DebugLog != nil {
		id, s, err := m.open("http-debug")
		if err != nil {
			return nil, err
		}
		out.Resolver.LogsStream = id
		m.run(func() error {
			defer s.Close()
			_, _ = io.Copy(r.DebugLog, bytestream.NewReader(s)) // a log is no part of the transfer
			return nil
		})
	}
	return out, nil
}

// answer gives credentials until the stream ends, or ends it when there are none.
func (m *moving) answer(s corestream.Stream, c transfer.Credentials) {
	defer s.Close()
	for {
		a, err := s.Recv()
		if err != nil {
			return
		}
		if err := m.answerOne(s, c, a); err != nil {
			return
		}
	}
}

func (m *moving) answerOne(s corestream.Stream, c transfer.Credentials, a typeurl.Any) error {
	var q transfertypes.AuthRequest
	if err := typeurl.UnmarshalTo(a, &q); err != nil {
		return fmt.Errorf("question for credentials: %w", err)
	}
	secret, err := c.Get(m.ctx, q.GetReference(), q.GetHost())
	if err != nil {
		return err
	}
	if a, err = typeurl.MarshalAny(wire.Secret(secret)); err != nil {
		return err
	}
	return s.Send(a)
}

// noticed notes since when it waits, and that it does not.
type noticed struct {
	io.Reader
	since *atomic.Int64
}

// Read implements io.Reader.
func (r *noticed) Read(p []byte) (int, error) {
	r.since.Store(time.Now().UnixNano())
	n, err := r.Reader.Read(p)
	r.since.Store(math.MaxInt64)
	return n, err
}

// failing keeps a reader's own error apart from those of whom it is copied to.
type failing struct {
	io.Reader
	err error
}

// Read implements io.Reader.
func (r *failing) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}
