package metadata

import (
	"context"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/identifier"
)

// maxKey bounds names of images, snapshots, leases and resources, in bytes.
const maxKey = 2048

// checkIdentifier holds for ids of namespaces and containers.
func checkIdentifier(what, s string) error {
	if err := identifier.Validate(s); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func checkKey(what, s string) error {
	if s == "" || len(s) > maxKey || strings.IndexByte(s, 0) >= 0 {
		return errdefs.InvalidArgument("%s %.100q must have 1 to %d bytes and no null byte", what, s, maxKey)
	}
	return nil
}

// namespaceOf returns the namespace of ctx; none is FailedPrecondition.
func namespaceOf(ctx context.Context) (string, error) {
	ns := reqctx.Namespace(ctx)
	if ns == "" {
		return "", errdefs.FailedPrecondition("namespace is required")
	}
	return ns, checkIdentifier("namespace", ns)
}

func checkTarget(d ocispec.Descriptor) error {
	switch {
	case d.Digest.Validate() != nil:
		return errdefs.InvalidArgument("image target: digest %q is not valid", d.Digest)
	case d.Size <= 0:
		return errdefs.InvalidArgument("image target: size must be greater than zero")
	case d.MediaType == "":
		return errdefs.InvalidArgument("image target: media type must be set")
	}
	return nil
}
