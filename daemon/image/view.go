package image

import (
	"context"
	"fmt"
	"time"

	"gantry/api/errdefs"
)

// View makes key a read-only snapshot of the image's layers, which are unpacked first if
// need be. It keeps itself and them until RemoveSnapshot, whatever becomes of the image.
func (s *Service) View(ctx context.Context, img *Image, key string) error {
	labels := map[string]string{labelRoot: time.Now().UTC().Format(time.RFC3339)}
	_, err := s.Snapshots.View(ctx, key, img.ChainID.String(), labels)
	if errdefs.IsNotFound(err) {
		err = s.unpackAndView(ctx, img, key, labels)
	}
	if err != nil {
		return fmt.Errorf("view snapshot %s: %w", key, err)
	}
	return nil
}

func (s *Service) unpackAndView(ctx context.Context, img *Image, key string, labels map[string]string) error {
	ctx, done, err := s.underLease(ctx, false)
	if err != nil {
		return err
	}
	defer done()
	m, err := s.readImage(ctx, img.Manifest)
	if err != nil {
		return err
	}
	chain, err := s.unpack(ctx, m, unpackHooks{})
	if err != nil {
		return err
	}
	_, err = s.Snapshots.View(ctx, key, chain.String(), labels)
	return err
}
