package content

import (
	"context"
	"io"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Open reads a blob of the store from its start; the caller closes it.
func Open(ctx context.Context, s Store, desc ocispec.Descriptor) (io.ReadCloser, error) {
	ra, err := s.ReaderAt(ctx, desc)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(ra, 0, ra.Size()), ra}, nil
}

// AddLabels sets those of the labels that the blob has not, or with another value. NotFound
// when there is no such blob.
func AddLabels(ctx context.Context, s Store, d digest.Digest, labels map[string]string) error {
	info, err := s.Info(ctx, d)
	if err != nil {
		return err
	}
	var paths []string
	for k, v := range labels {
		if info.Labels[k] != v {
			paths = append(paths, "labels."+k)
		}
	}
	if len(paths) == 0 {
		return nil
	}
	_, err = s.Update(ctx, Info{Digest: d, Labels: labels}, paths...)
	return err
}
