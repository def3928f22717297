package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	containerdcontent "github.com/containerd/containerd/v2/core/content" // the pusher's writer
	"github.com/containerd/containerd/v2/core/remotes"
	remoteerrors "github.com/containerd/containerd/v2/core/remotes/errors"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/content"
)

// Pusher takes blobs for one repository. Safe for concurrent use.
type Pusher struct {
	remote remotes.Pusher
	log    *slog.Logger
}

// resets is how often a registry may ask for a blob from the start again.
const resets = 5

// ErrExists says that the registry has the blob already.
var ErrExists = errdefs.AlreadyExists("the registry has it already")

// Status returns the HTTP status that a registry has answered with, if that was it.
func Status(err error) (code int, ok bool) {
	var status remoteerrors.ErrUnexpectedStatus
	ok = errors.As(err, &status)
	return status.StatusCode, ok
}

// Push sends the blob; sent hears how far it is, from 0 again when the registry wants it
// again. What the registry has already is ErrExists. Annotations of d of the form of
// Source tell of repositories it may be taken from.
func (p *Pusher) Push(ctx context.Context, store content.Store, d ocispec.Descriptor, sent func(offset int64)) error {
	ctx = quiet(ctx, p.log)
	w, err := p.remote.Push(ctx, d)
	if errdefs.IsAlreadyExists(err) {
		return ErrExists
	}
	if err != nil {
		return err
	}
	defer w.Close()
	r, err := store.ReaderAt(ctx, d)
	if err != nil {
		return err
	}
	defer r.Close()
	if r.Size() != d.Size {
		return fmt.Errorf("content %s has %d bytes, the descriptor says %d", d.Digest, r.Size(), d.Size)
	}
	for range resets {
		sent(0)
		if err = send(ctx, w, r, d, sent); !errors.Is(err, containerdcontent.ErrReset) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("push %s: %w", d.Digest, err)
	}
	return nil
}

func send(ctx context.Context, w containerdcontent.Writer, r content.ReaderAt, d ocispec.Descriptor, sent func(int64)) error {
	buf := buffers.Get().(*[128 << 10]byte)
	defer buffers.Put(buf)
	from := &counted{r: io.NewSectionReader(r, 0, d.Size), sent: sent}
	if _, err := io.CopyBuffer(struct{ io.Writer }{w}, from, buf[:]); err != nil {
		return err
	}
	return w.Commit(ctx, d.Size, d.Digest)
}

// counted reports what was read before, and thus sent, at each read.
type counted struct {
	r    io.Reader
	sent func(int64)
	n    int64
}

func (c *counted) Read(p []byte) (int, error) {
	c.sent(c.n)
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
