package httputil

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
)

// ParseForm fills r.Form. A POST without a usable Content-Type is fine: its values
// are in the query.
func ParseForm(r *http.Request) error {
	if err := r.ParseForm(); err != nil && !strings.HasPrefix(err.Error(), "mime:") {
		return errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	return nil
}

// The functions below read r.Form, so ParseForm comes first.

// Bool is Docker's lenient reading: empty, 0, no, false and none are false, anything
// else is true.
func Bool(r *http.Request, key string) bool {
	switch strings.ToLower(strings.TrimSpace(r.Form.Get(key))) {
	case "", "0", "no", "false", "none":
		return false
	}
	return true
}

// BoolOr is Bool for a parameter that is def when absent.
func BoolOr(r *http.Request, key string, def bool) bool {
	if !r.Form.Has(key) {
		return def
	}
	return Bool(r, key)
}

// Int reads a decimal number; ok is false when it is absent or empty.
func Int(r *http.Request, key string) (n int, ok bool, err error) {
	v := r.Form.Get(key)
	if v == "" {
		return 0, false, nil
	}
	n, err = strconv.Atoi(v)
	if err != nil {
		return 0, false, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	return n, true, nil
}

// Size reads the h and w of a resize.
func Size(r *http.Request) (height, width uint32, err error) {
	if height, err = parseUint32(r.Form.Get("h")); err != nil {
		return 0, 0, errdefs.InvalidArgument("invalid resize height %q: %w", r.Form.Get("h"), err)
	}
	if width, err = parseUint32(r.Form.Get("w")); err != nil {
		return 0, 0, errdefs.InvalidArgument("invalid resize width %q: %w", r.Form.Get("w"), err)
	}
	return height, width, nil
}

// parseUint32 tells a number that is out of range from what is no number, in Docker's
// words: the bare strconv error.
func parseUint32(v string) (uint32, error) {
	if n, err := strconv.ParseInt(v, 10, 64); err == nil && n < 0 {
		return 0, strconv.ErrRange
	}
	if strings.HasPrefix(v, "+") {
		return 0, strconv.ErrSyntax
	}
	n, err := strconv.ParseUint(v, 10, 32)
	if err != nil {
		return 0, errors.Unwrap(err)
	}
	return uint32(n), nil
}

// maxFilters bounds the filters parameter in bytes.
const maxFilters = 1 << 20

// Filters reads the filters parameter, a JSON map of lists or, in the older form, of
// maps to true.
func Filters(r *http.Request) (filters.Args, error) {
	v := r.Form.Get("filters")
	if len(v) > maxFilters {
		return filters.NewArgs(), errdefs.InvalidArgument("invalid filter")
	}
	args, err := filters.FromJSON(v)
	if err != nil {
		return filters.NewArgs(), errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	if args.Len() == 0 {
		return filters.NewArgs(), nil // "null" leaves a map that cannot be added to
	}
	return args, nil
}

// Platform reads a platform given as an OCI JSON object; nil when absent.
func Platform(r *http.Request, key string) (*ocispec.Platform, error) {
	v := r.Form.Get(key)
	if v == "" {
		return nil, nil
	}
	return decodePlatform(v)
}

// OnePlatform is Platform for a parameter that may not be repeated.
func OnePlatform(r *http.Request, key string) (*ocispec.Platform, error) {
	if len(r.Form[key]) > 1 {
		return nil, errdefs.InvalidArgument("multiple platform parameters not supported")
	}
	return Platform(r, key)
}

// Platforms reads a repeated parameter of OCI JSON objects.
func Platforms(r *http.Request, key string) ([]ocispec.Platform, error) {
	var out []ocispec.Platform
	for _, v := range r.Form[key] {
		p, err := decodePlatform(v)
		if err != nil {
			return nil, err
		}
		out = append(out, *p)
	}
	return out, nil
}

func decodePlatform(v string) (*ocispec.Platform, error) {
	var p ocispec.Platform
	if err := json.Unmarshal([]byte(v), &p); err != nil {
		return nil, errdefs.InvalidArgument("failed to parse platform: %w", err)
	}
	if p.OS == "" && p.Architecture == "" && (p.Variant != "" || p.OSVersion != "" || len(p.OSFeatures) > 0) {
		return nil, errdefs.InvalidArgument("optional platform fields provided, but OS and Architecture are missing")
	}
	if p.OS == "" || p.Architecture == "" {
		return nil, errdefs.InvalidArgument("both OS and Architecture must be provided")
	}
	return &p, nil
}

// RepoTag joins repo and tag into a reference with a tag, latest by default; nil when
// repo is empty.
func RepoTag(repo, tag string) (reference.NamedTagged, error) {
	if repo == "" {
		return nil, nil
	}
	named, err := reference.ParseNormalizedNamed(repo)
	if err != nil {
		return nil, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	if _, ok := named.(reference.Digested); ok {
		return nil, errdefs.InvalidArgument("cannot import digest reference")
	}
	if tag != "" {
		tagged, err := reference.WithTag(named, tag)
		return tagged, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	tagged, ok := reference.TagNameOnly(named).(reference.NamedTagged)
	if !ok {
		return nil, errdefs.InvalidArgument("unexpected reference: %q", named.String())
	}
	return tagged, nil
}

// Auth reads the X-Registry-Auth header. What cannot be read counts as absent, as with
// Docker: a pull without credentials is no error.
func Auth(r *http.Request) *registry.AuthConfig {
	a, err := registry.DecodeAuthConfig(r.Header.Get(registry.AuthHeader))
	if err != nil {
		return &registry.AuthConfig{}
	}
	return a
}

// MetaHeaders are the X-Meta- headers, which go to the registry with a pull.
func MetaHeaders(r *http.Request) map[string][]string {
	out := map[string][]string{}
	for k, v := range r.Header {
		if strings.HasPrefix(k, "X-Meta-") {
			out[k] = v
		}
	}
	return out
}
