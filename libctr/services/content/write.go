package content

import (
	"context"
	"errors"
	"fmt"
	"io"

	containerdevents "github.com/containerd/containerd/api/events"
	api "github.com/containerd/containerd/api/services/content/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/rpcstatus"
	"gantry/libctr/core/content"
	"gantry/libctr/core/wire"
)

// Write serves one writer for as long as the stream is open:
//
//	client                             server
//	STAT ref [total] [expected]   →    opens or resumes the ingest; it is locked now
//	                              ←    offset, total, times, digest so far
//	WRITE [offset] data           →    offset must be 0 (start over) or where the ingest is
//	                              ←    offset after it, digest
//	COMMIT [offset] [data] [total] [expected] [labels]
//	                              ←    digest; the stream ends
//
// The first message needs a ref and may have any action; a stream that ends
// without COMMIT leaves the ingest to be resumed. An expected digest that is there
// already ends the stream with AlreadyExists and drops the ingest.
func (s *Service) Write(stream api.Content_WriteServer) error {
	return rpcstatus.To(s.write(stream))
}

func (s *Service) write(stream api.Content_WriteServer) error {
	req, err := stream.Recv()
	if err != nil {
		return err
	}
	if req.GetRef() == "" {
		return errdefs.InvalidArgument("first message must have a reference")
	}
	ss := session{
		store: s.store, ref: req.GetRef(), total: req.GetTotal(), expected: digest.Digest(req.GetExpected()),
	}
	ss.writer, err = s.store.Writer(stream.Context(), content.WriterOptions{
		Ref: ss.ref, Desc: ocispec.Descriptor{Size: ss.total, Digest: ss.expected},
	})
	if err != nil {
		return err
	}
	defer ss.writer.Close()
	for {
		resp, err := ss.step(stream.Context(), req)
		if err != nil {
			return err
		}
		if req.GetAction() == api.WriteAction_COMMIT {
			s.notify.Publish(stream.Context(), "/content/create",
				&containerdevents.ContentCreate{Digest: resp.Digest, Size: resp.Offset})
		}
		if err := stream.Send(resp); err != nil {
			return err
		}
		if req.GetAction() == api.WriteAction_COMMIT {
			return nil
		}
		if req, err = stream.Recv(); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
	}
}

// session is one Write stream.
type session struct {
	store    content.Store
	writer   content.Writer
	ref      string
	total    int64         // as last announced
	expected digest.Digest // as last announced
}

// step does what one message asks for.
func (ss *session) step(ctx context.Context, req *api.WriteContentRequest) (*api.WriteContentResponse, error) {
	if err := ss.announce(ctx, req); err != nil {
		return nil, err
	}
	st, err := ss.writer.Status()
	if err != nil {
		return nil, err
	}
	resp := &api.WriteContentResponse{
		Action:    req.GetAction(),
		StartedAt: wire.Timestamp(st.StartedAt),
		UpdatedAt: wire.Timestamp(st.UpdatedAt),
		Offset:    st.Offset,
		Total:     ss.total,
	}
	switch req.GetAction() {
	case api.WriteAction_STAT:
	case api.WriteAction_WRITE, api.WriteAction_COMMIT:
		if resp.Offset, err = ss.take(req, st.Offset); err != nil {
			return nil, err
		}
	default:
		return nil, errdefs.InvalidArgument("write action %d is not known", req.GetAction())
	}
	if req.GetAction() == api.WriteAction_COMMIT {
		err := ss.writer.Commit(ctx, ss.total, ss.expected, req.GetLabels())
		if errdefs.IsAlreadyExists(err) && req.GetExpected() != "" {
			err = errExpected(ss.expected)
		}
		if err != nil {
			return nil, err
		}
		resp.Digest = ss.committed().String()
		return resp, nil
	}
	resp.Digest = ss.writer.Digest().String()
	return resp, nil
}

func (ss *session) committed() digest.Digest {
	if ss.expected != "" {
		return ss.expected
	}
	return ss.writer.Digest()
}

// announce notes what the message says the ingest will become.
func (ss *session) announce(ctx context.Context, req *api.WriteContentRequest) error {
	if req.GetTotal() > 0 {
		ss.total = req.GetTotal()
	}
	d := digest.Digest(req.GetExpected())
	if d == "" || d == ss.expected {
		return nil // not new: looked up when the writer was opened
	}
	if err := d.Validate(); err != nil {
		return errdefs.InvalidArgument("%q failed validation", d)
	}
	ss.expected = d
	if req.GetAction() == api.WriteAction_COMMIT {
		return nil // the commit itself finds out, and has the lease hold the blob
	}
	if _, err := ss.store.Info(ctx, d); err != nil {
		return nil //nolint:nilerr // not there, or Commit will say why not
	}
	ss.writer.Close()
	if err := ss.store.Abort(ctx, ss.ref); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return errExpected(d)
}

// errExpected says that the blob that a message announces is there.
func errExpected(d digest.Digest) error {
	return errdefs.AlreadyExists("blob with expected digest %v exists", d)
}

// take writes the message's data and returns the offset after it.
func (ss *session) take(req *api.WriteContentRequest, at int64) (int64, error) {
	switch {
	case req.GetOffset() != 0 && req.GetOffset() != at:
		return 0, errdefs.WithClass(errdefs.ErrOutOfRange,
			fmt.Errorf("write @%d must occur at current offset %d", req.GetOffset(), at))
	case req.GetOffset() == 0 && at > 0:
		if err := ss.writer.Truncate(0); err != nil {
			return 0, err
		}
		at = 0
	}
	if len(req.GetData()) == 0 {
		return at, nil
	}
	n, err := ss.writer.Write(req.GetData())
	return at + int64(n), err
}
