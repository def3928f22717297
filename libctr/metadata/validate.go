package metadata

import (
	"context"
	"regexp"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
)

// Bounds of names, in bytes.
const (
	maxIdentifier = 76   // containerd's
	maxKey        = 2048 // of images, snapshots and resources
)

// identifier is containerd's rule for ids of namespaces, containers and leases.
var identifier = regexp.MustCompile(`^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$`)

func checkIdentifier(what, s string) error {
	switch {
	case s == "":
		return errdefs.InvalidArgument("%s must not be empty", what)
	case len(s) > maxIdentifier:
		return errdefs.InvalidArgument("%s %.100q is longer than %d characters", what, s, maxIdentifier)
	case !identifier.MatchString(s):
		return errdefs.InvalidArgument("%s %q must match %v", what, s, identifier)
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
