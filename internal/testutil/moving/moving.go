// Package moving has an engine's core move images, for tests that kill it while it does.
package moving

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/client"
	"gantry/libctr/core/content"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/transfer"
)

const namespace = "moving"

type buffer struct{ bytes.Buffer }

func (*buffer) Close() error { return nil }

// Through pulls the image of a registry on this host, unpacks it, exports it, imports that
// by a lease that the core makes, and takes everything away. What an earlier call has left
// goes first.
func Through(ctx context.Context, socket, ref string) error {
	return with(ctx, socket, func(ctx context.Context, core *client.Client) error {
		l, err := core.Leases().Create(ctx, "", nil)
		if err != nil {
			return err
		}
		if err := move(ctx, lease.With(ctx, l.ID), core, ref); err != nil {
			return err
		}
		_, err = core.Images().Get(ctx, ref)
		return err
	})
}

// Abandoned writes two ingests that do not become blobs: one is aborted, and one goes with
// its lease.
func Abandoned(ctx context.Context, socket string) error {
	return with(ctx, socket, func(ctx context.Context, core *client.Client) error {
		l, err := core.Leases().Create(ctx, "", nil)
		if err != nil {
			return err
		}
		under := lease.With(ctx, l.ID)
		for _, ref := range []string{"aborted", "left"} {
			w, err := core.Content().Writer(under, content.WriterOptions{Ref: ref})
			if err != nil {
				return err
			}
			_, err = w.Write([]byte(ref))
			if err := errors.Join(err, w.Close()); err != nil {
				return err
			}
		}
		if err := core.Content().Abort(under, "aborted"); err != nil {
			return err
		}
		return core.Leases().Delete(ctx, l.ID, true)
	})
}

// with clears the namespace before and after fn.
func with(ctx context.Context, socket string, fn func(ctx context.Context, core *client.Client) error) error {
	ctx, cancel := context.WithTimeout(reqctx.WithNamespace(ctx, namespace), time.Minute)
	defer cancel()
	core, err := client.New(socket)
	if err != nil {
		return err
	}
	defer core.Close()
	if err := clear(ctx, core); err != nil {
		return fmt.Errorf("clear: %w", err)
	}
	if err := fn(ctx, core); err != nil {
		return err
	}
	return clear(ctx, core)
}

// move imports with ctx, and does the rest under a lease.
func move(ctx, under context.Context, core *client.Client, ref string) error {
	unpack := []transfer.Unpack{{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}}}
	registry := &transfer.Registry{Reference: ref, DefaultScheme: "http"}
	if err := core.Transfers().Transfer(under, registry, &transfer.ImageStore{Name: ref, Unpacks: unpack}, transfer.Options{}); err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	var tar buffer
	if err := core.Transfers().Transfer(under, &transfer.ImageStore{Name: ref}, &transfer.Export{Stream: &tar}, transfer.Options{}); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	into := &transfer.ImageStore{Unpacks: unpack, ExtraReferences: []transfer.Reference{{Name: ref, IsPrefix: true, AllowOverwrite: true}}}
	if err := core.Transfers().Transfer(ctx, &transfer.Import{Stream: &tar}, into, transfer.Options{}); err != nil {
		return fmt.Errorf("import: %w", err)
	}
	return nil
}

// clear removes images and leases, what they held, and the namespace.
func clear(ctx context.Context, core *client.Client) error {
	images, err := core.Images().List(ctx)
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	for _, img := range images {
		if err := core.Images().Delete(ctx, img.Name, true, nil); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	leases, err := core.Leases().List(ctx)
	if err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	for _, l := range leases {
		if err := core.Leases().Delete(ctx, l.ID, true); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	if err := core.Namespaces().Delete(ctx, namespace); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}
