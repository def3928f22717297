package metadata

import (
	"context"
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/identifier"
	"gantry/libctr/label"
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
		return errdefs.InvalidArgument("%s %.100q must have 1 to %d bytes and no null byte: invalid argument", what, s, maxKey)
	}
	return nil
}

// namespaceOf returns the namespace of ctx; none is FailedPrecondition.
func namespaceOf(ctx context.Context) (string, error) {
	ns := reqctx.Namespace(ctx)
	if ns == "" {
		return "", errdefs.FailedPrecondition("namespace is required: failed precondition")
	}
	return ns, checkIdentifier("namespace validation", ns)
}

func checkTarget(d ocispec.Descriptor) error {
	if err := d.Digest.Validate(); err != nil {
		return errdefs.InvalidArgument("target.Digest %q invalid: %w: invalid argument", d.Digest, err)
	}
	switch {
	case d.Size <= 0:
		return errdefs.InvalidArgument("target.Size must be greater than zero: invalid argument")
	case d.MediaType == "":
		return errdefs.InvalidArgument("target.MediaType must be set: invalid argument")
	}
	return nil
}

// mergeLabels is the update of what has no other fields that may change.
func mergeLabels(what, key string, old, new map[string]string, paths []string) (map[string]string, error) {
	for _, path := range paths {
		if path != "labels" && !strings.HasPrefix(path, "labels.") {
			return nil, errdefs.InvalidArgument("cannot update %q field on %s %q: invalid argument", path, what, key)
		}
	}
	out, err := label.Update(old, new, paths...)
	if err != nil {
		return nil, fmt.Errorf("info.Labels: %w", err)
	}
	return out, nil
}
