package registry

import (
	"maps"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/libctr/label"
)

// sourcePrefix and a registry's host make the label of a blob, and the annotation of a
// descriptor, that lists the repositories it is known to be in.
const sourcePrefix = "containerd.io/distribution.source."

// Source returns the label that says where the reference's blobs come from, with what old
// says already. ok is false when there is nothing to write, or when it would be too long.
func Source(reference string, old map[string]string) (key, value string, ok bool) {
	host, repository, ok := split(reference)
	if !ok {
		return "", "", false
	}
	key = sourcePrefix + host
	known := strings.FieldsFunc(old[key], func(r rune) bool { return r == ',' })
	if slices.Contains(known, repository) {
		return "", "", false
	}
	known = append(known, repository)
	slices.Sort(known)
	value = strings.Join(slices.Compact(known), ",")
	return key, value, label.Validate(map[string]string{key: value}) == nil
}

// split cuts HOST[:PORT]/NAME[:TAG][@DIGEST]; the port is none of the label's business.
func split(reference string) (host, repository string, ok bool) {
	host, repository, ok = strings.Cut(reference, "/")
	host, _, _ = strings.Cut(host, ":")
	repository, _, _ = strings.Cut(repository, "@")
	repository, _, _ = strings.Cut(repository, ":")
	return host, repository, ok && host != "" && repository != ""
}

// WithSources returns d with the annotations by which a registry can take the blob from
// another of its repositories: those of the blob's own labels, else of its parent's
// annotations and labels.
func WithSources(d ocispec.Descriptor, from ...map[string]string) ocispec.Descriptor {
	d.Annotations = maps.Clone(d.Annotations)
	for _, labels := range from {
		for k, v := range labels {
			if !strings.HasPrefix(k, sourcePrefix) {
				continue
			}
			if d.Annotations == nil {
				d.Annotations = map[string]string{}
			}
			if _, has := d.Annotations[k]; !has {
				d.Annotations[k] = v
			}
		}
	}
	return d
}
