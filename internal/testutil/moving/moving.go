// Package moving has an engine's core move images, for tests that kill it while it does.
package moving

import (
	"bytes"
	"context"
	"fmt"
	"runtime"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/client"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/transfer"
)

const namespace = "moving"

type buffer struct{ bytes.Buffer }

func (*buffer) Close() error { return nil }

// Through pulls the image of a registry on this host, unpacks it, exports it, imports that,
// and takes everything away. What an earlier call has left goes first.
func Through(socket, ref string) error {
	ctx, cancel := context.WithTimeout(reqctx.WithNamespace(context.Background(), namespace), time.Minute)
	defer cancel()
	core, err := client.New(socket)
	if err != nil {
		return err
	}
	defer core.Close()
	if err := clear(ctx, core); err != nil {
		return fmt.Errorf("clear: %w", err)
	}
	l, err := core.Leases().Create(ctx, "", nil)
	if err != nil {
		return err
	}
	under := lease.With(ctx, l.ID)
	if err := move(under, core, ref); err != nil {
		return err
	}
	if _, err := core.Images().Get(ctx, ref); err != nil {
		return err
	}
	return clear(ctx, core)
}

func move(ctx context.Context, core *client.Client, ref string) error {
	unpack := []transfer.Unpack{{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}}}
	registry := &transfer.Registry{Reference: ref, DefaultScheme: "http"}
	if err := core.Transfers().Transfer(ctx, registry, &transfer.ImageStore{Name: ref, Unpacks: unpack}, transfer.Options{}); err != nil {
		return fmt.Errorf("pull: %w", err)
	}
	var tar buffer
	if err := core.Transfers().Transfer(ctx, &transfer.ImageStore{Name: ref}, &transfer.Export{Stream: &tar}, transfer.Options{}); err != nil {
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
