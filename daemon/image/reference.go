package image

import (
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"gantry/api/errdefs"
	"gantry/libctr/core/image"
)

const danglingPrefix = "moby-dangling@"

func danglingName(d digest.Digest) string { return danglingPrefix + d.String() }

func isDangling(img image.Image) bool { return img.Name == danglingName(img.Target.Digest) }

// familiarName is what a user calls the image: a short reference, or its id.
func familiarName(img image.Image) string {
	if isDangling(img) {
		return img.Target.Digest.String()
	}
	if ref, err := reference.ParseNamed(img.Name); err == nil {
		return reference.FamiliarString(ref)
	}
	return img.Name
}

// noSuchImage carries Docker's words for a reference that names nothing.
func noSuchImage(ref reference.Reference) error {
	if named, ok := ref.(reference.Named); ok {
		ref = reference.TagNameOnly(named)
	}
	return errdefs.NotFound("No such image: %s", reference.FamiliarString(ref))
}

// truncatedID returns the hex digits when ref may be an id or the beginning of one
// (4 to 64 lower-case hex digits, "sha256:" allowed before them), else "".
func truncatedID(ref string) string {
	id := strings.TrimPrefix(ref, "sha256:")
	if len(id) < 4 || len(id) > 64 || strings.Trim(id, "0123456789abcdef") != "" {
		return ""
	}
	return id
}

// isIDPrefix says whether ref is the beginning of id, with or without its algorithm.
func isIDPrefix(id digest.Digest, ref string) bool {
	return strings.HasPrefix(id.String(), ref) || strings.HasPrefix(id.Encoded(), ref)
}

// shortID is what Docker prints of an id: 12 digits.
func shortID(id string) string {
	if i := strings.IndexByte(id, ':'); i >= 0 {
		id = id[i+1:]
	}
	return id[:min(12, len(id))]
}
