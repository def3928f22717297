package client

import (
	"context"
	"errors"
	"fmt"
	"io"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"

	"gantry/libctr/core/content"
	"gantry/libctr/core/wire"
)

// Content returns the core's blobs.
func (c *Client) Content() content.Store { return ContentStore(c.conn) }

// ContentStore is the same on a connection with this package's interceptors.
func ContentStore(conn grpc.ClientConnInterface) content.Store {
	return contentStore{contentapi.NewContentClient(conn)}
}

type contentStore struct{ rpc contentapi.ContentClient }

func (s contentStore) Info(ctx context.Context, d digest.Digest) (content.Info, error) {
	r, err := s.rpc.Info(ctx, &contentapi.InfoRequest{Digest: d.String()})
	return wire.FromContentInfo(r.GetInfo()), err
}

func (s contentStore) Update(ctx context.Context, info content.Info, fieldpaths ...string) (content.Info, error) {
	r, err := s.rpc.Update(ctx, &contentapi.UpdateRequest{Info: wire.ContentInfo(info), UpdateMask: mask(fieldpaths)})
	return wire.FromContentInfo(r.GetInfo()), err
}

func (s contentStore) Walk(ctx context.Context, fn func(content.Info) error, filters ...string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // also when fn ends the walk
	stream, err := s.rpc.List(ctx, &contentapi.ListContentRequest{Filters: filters})
	if err != nil {
		return err
	}
	return receive(stream.Recv, func(m *contentapi.ListContentResponse) error {
		for _, i := range m.GetInfo() {
			if err := fn(wire.FromContentInfo(i)); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s contentStore) Delete(ctx context.Context, d digest.Digest) error {
	_, err := s.rpc.Delete(ctx, &contentapi.DeleteContentRequest{Digest: d.String()})
	return err
}

func (s contentStore) Status(ctx context.Context, ref string) (content.Status, error) {
	r, err := s.rpc.Status(ctx, &contentapi.StatusRequest{Ref: ref})
	return wire.FromContentStatus(r.GetStatus()), err
}

func (s contentStore) ListStatuses(ctx context.Context, filters ...string) ([]content.Status, error) {
	r, err := s.rpc.ListStatuses(ctx, &contentapi.ListStatusesRequest{Filters: filters})
	if err != nil {
		return nil, err
	}
	out := make([]content.Status, len(r.GetStatuses()))
	for i, st := range r.GetStatuses() {
		out[i] = wire.FromContentStatus(st)
	}
	return out, nil
}

func (s contentStore) Abort(ctx context.Context, ref string) error {
	_, err := s.rpc.Abort(ctx, &contentapi.AbortRequest{Ref: ref})
	return err
}

// ReaderAt implements content.Store. Every ReadAt is a call of its own under ctx:
// read large pieces.Reads that follow each other share one stream.
func (s contentStore) ReaderAt(ctx context.Context, desc ocispec.Descriptor) (content.ReaderAt, error) {
	info, err := s.Info(ctx, desc.Digest)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	return &contentReader{ctx: ctx, cancel: cancel, rpc: s.rpc, digest: desc.Digest, size: info.Size}, nil
}

// Writer implements content.Store.
func (s contentStore) Writer(ctx context.Context, o content.WriterOptions) (content.Writer, error) {
	ctx, cancel := context.WithCancel(ctx)
	w, err := s.openWriter(ctx, o)
	if err != nil {
		cancel()
		return nil, err
	}
	w.cancel = cancel
	return w, nil
}

func (s contentStore) openWriter(ctx context.Context, o content.WriterOptions) (*contentWriter, error) {
	stream, err := s.rpc.Write(ctx)
	if err != nil {
		return nil, err
	}
	w := &contentWriter{stream: stream, status: content.Status{
		Ref: o.Ref, Total: o.Desc.Size, Expected: o.Desc.Digest,
	}}
	return w, w.stat()
}

// contentWriter is one Write stream.
type contentWriter struct {
	stream contentapi.Content_WriteClient
	cancel context.CancelFunc
	status content.Status
	digest digest.Digest
	done   bool // the server has ended the stream
}

// call sends one message and takes the answer in.
func (w *contentWriter) call(req *contentapi.WriteContentRequest) error {
	if w.done {
		return fmt.Errorf("content writer %q: %w", w.status.Ref, io.ErrClosedPipe)
	}
	// A stream that the server has ended refuses with io.EOF: its reason is what Recv says.
	if err := w.stream.Send(req); err != nil && !errors.Is(err, io.EOF) {
		w.done = true
		return err
	}
	r, err := w.stream.Recv()
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		w.done = true
		return err
	}
	w.digest = digest.Digest(r.GetDigest())
	w.status.Offset = r.GetOffset()
	if r.GetStartedAt() != nil {
		w.status.StartedAt = wire.Time(r.GetStartedAt())
	}
	if r.GetUpdatedAt() != nil {
		w.status.UpdatedAt = wire.Time(r.GetUpdatedAt())
	}
	if r.GetTotal() > 0 {
		w.status.Total = r.GetTotal()
	}
	return nil
}

func (w *contentWriter) stat() error {
	return w.call(&contentapi.WriteContentRequest{
		Action:   contentapi.WriteAction_STAT,
		Ref:      w.status.Ref,
		Total:    w.status.Total,
		Expected: w.status.Expected.String(),
	})
}

// writeChunk keeps a message well below MaxMessageSize.
const writeChunk = 1 << 20

func (w *contentWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		chunk := p[:min(len(p), writeChunk)]
		err := w.call(&contentapi.WriteContentRequest{
			Action: contentapi.WriteAction_WRITE, Offset: w.status.Offset, Data: chunk,
		})
		if err != nil {
			return n, err
		}
		n += len(chunk)
		p = p[len(chunk):]
	}
	return n, nil
}

func (w *contentWriter) Commit(_ context.Context, size int64, expected digest.Digest, labels map[string]string) error {
	err := w.call(&contentapi.WriteContentRequest{
		Action:   contentapi.WriteAction_COMMIT,
		Total:    size,
		Offset:   w.status.Offset,
		Expected: expected.String(),
		Labels:   labels,
	})
	w.done = true
	return err
}

func (w *contentWriter) Digest() digest.Digest           { return w.digest }
func (w *contentWriter) Status() (content.Status, error) { return w.status, nil }

// Truncate lets the next write start over: the protocol has no truncation by itself.
func (w *contentWriter) Truncate(size int64) error {
	if size != 0 {
		return fmt.Errorf("truncate content writer %q to %d: only to 0 is possible", w.status.Ref, size)
	}
	return w.call(&contentapi.WriteContentRequest{Action: contentapi.WriteAction_WRITE})
}

// Close ends the stream and waits until the server has let go of the ingest.
func (w *contentWriter) Close() error {
	defer w.cancel()
	if err := w.stream.CloseSend(); err != nil {
		return err
	}
	for {
		if _, err := w.stream.Recv(); err != nil {
			w.done = true
			return nil // the end, or what a call has returned already
		}
	}
}

// contentReader reads a blob with one call for each piece.
type contentReader struct {
	ctx    context.Context
	cancel context.CancelFunc
	rpc    contentapi.ContentClient
	digest digest.Digest
	size   int64
}

func (r *contentReader) Size() int64 { return r.size }

func (r *contentReader) Close() error {
	r.cancel()
	return nil
}

func (r *contentReader) ReadAt(p []byte, off int64) (n int, err error) {
	if off < 0 {
		return 0, fmt.Errorf("read content %v at %d: negative offset", r.digest, off)
	}
	if off >= r.size {
		return 0, io.EOF
	}
	want := int(min(int64(len(p)), r.size-off))
	if want == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	stream, err := r.rpc.Read(ctx, &contentapi.ReadContentRequest{
		Digest: r.digest.String(), Offset: off, Size: int64(want),
	})
	if err != nil {
		return 0, err
	}
	for n < want {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return n, io.ErrUnexpectedEOF
		}
		if err != nil {
			return n, err
		}
		n += copy(p[n:want], m.GetData())
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}
