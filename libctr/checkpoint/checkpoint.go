// Package checkpoint keeps checkpoints of tasks in the content store, in containerd's
// form: a tar of what the runtime has written, and the container's spec as a protobuf
// Any.
package checkpoint

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/proto"

	"gantry/api/errdefs"
	"gantry/libctr/core/container"
	"gantry/libctr/core/content"
	"gantry/libctr/core/wire"
)

// containerd's media types.
const (
	mediaImages = "application/vnd.containerd.container.criu.checkpoint.criu.tar"
	mediaConfig = "application/vnd.containerd.container.checkpoint.config.v1+proto"
)

// Containers looks up what a task belongs to.
type Containers interface {
	Get(ctx context.Context, id string) (container.Container, error)
}

// Archive keeps checkpoints. Safe for concurrent use.
type Archive struct {
	content    content.Store
	containers Containers
}

// New returns an archive.
func New(c content.Store, cs Containers) *Archive { return &Archive{c, cs} }

// Store writes the files of dir, and the spec of the container, as blobs. What keeps
// them from being collected is the caller's.
func (a *Archive) Store(ctx context.Context, containerID, dir string) ([]ocispec.Descriptor, error) {
	c, err := a.containers.Get(ctx, containerID)
	if err != nil {
		return nil, err
	}
	r, w := io.Pipe()
	go func() { w.CloseWithError(pack(dir, w)) }() // ends with r
	defer r.Close()
	images, err := a.write(ctx, mediaImages, r)
	if err != nil {
		return nil, fmt.Errorf("store checkpoint of %s: %w", containerID, err)
	}
	raw, err := proto.Marshal(wire.Any(c.Spec))
	if err != nil {
		return nil, err
	}
	config, err := a.write(ctx, mediaConfig, bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("store checkpoint of %s: %w", containerID, err)
	}
	return []ocispec.Descriptor{images, config}, nil
}

// write makes a blob of what r has.
func (a *Archive) write(ctx context.Context, media string, r io.Reader) (d ocispec.Descriptor, err error) {
	ref := "checkpoint-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	w, err := a.content.Writer(ctx, content.WriterOptions{Ref: ref})
	if err != nil {
		return d, err
	}
	defer func() {
		w.Close()
		if err != nil {
			a.content.Abort(context.WithoutCancel(ctx), ref) //nolint:errcheck // the error before says more
		}
	}()
	n, err := io.Copy(w, r)
	if err != nil {
		return d, err
	}
	d = ocispec.Descriptor{MediaType: media, Digest: w.Digest(), Size: n}
	if err := w.Commit(ctx, n, d.Digest, nil); err != nil && !errdefs.IsAlreadyExists(err) {
		return d, err
	}
	return d, nil
}

// Load unpacks the blob of a checkpoint's files into dir.
func (a *Archive) Load(ctx context.Context, checkpoint ocispec.Descriptor, dir string) error {
	if checkpoint.MediaType != mediaImages {
		return errdefs.InvalidArgument("unsupported checkpoint type %q", checkpoint.MediaType)
	}
	r, err := a.content.ReaderAt(ctx, checkpoint)
	if err != nil {
		return err
	}
	defer r.Close()
	if err := unpack(io.NewSectionReader(r, 0, r.Size()), dir); err != nil {
		return fmt.Errorf("unpack checkpoint %s: %w", checkpoint.Digest, err)
	}
	return nil
}

// pack writes the plain files and directories of dir. What else a runtime may leave
// there, such as its socket to a page server, is of that run.
func pack(dir string, to io.Writer) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	w := tar.NewWriter(to)
	err = fs.WalkDir(root.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || name == "." || !e.IsDir() && !e.Type().IsRegular() {
			return err
		}
		return packOne(w, root, name)
	})
	return errors.Join(err, w.Close())
}

func packOne(w *tar.Writer, root *os.Root, name string) error {
	f, err := root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	h := &tar.Header{Name: name, Mode: int64(st.Mode().Perm()), ModTime: st.ModTime().Truncate(time.Second), Typeflag: tar.TypeReg, Size: st.Size()}
	if st.IsDir() {
		h.Name, h.Typeflag, h.Size = name+"/", tar.TypeDir, 0
	}
	if err := w.WriteHeader(h); err != nil || st.IsDir() {
		return err
	}
	_, err = io.CopyN(w, f, st.Size())
	return err
}

// unpack writes plain files and directories below dir, and nothing else anywhere.
func unpack(from io.Reader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	for r := tar.NewReader(from); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := unpackOne(r, h, root); err != nil {
			return err
		}
	}
}

func unpackOne(r io.Reader, h *tar.Header, root *os.Root) error {
	name := filepath.Clean(h.Name)
	switch h.Typeflag {
	case tar.TypeDir:
		return root.MkdirAll(name, 0o700)
	case tar.TypeReg:
	default:
		return errdefs.InvalidArgument("%q is no plain file", h.Name)
	}
	if err := root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return err
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}
