package image

import (
	"context"
	"fmt"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/image"
	coremanifest "gantry/libctr/core/manifest"
)

// conflict says what keeps an image from being deleted.
type conflict uint8

const (
	conflictRunning   conflict = 1 << iota // a running container uses it; not to be forced
	conflictReference                      // it has other names
	conflictStopped                        // a stopped container uses it
	conflictSoft      = conflictReference | conflictStopped
)

func conflictError(what, how, why string) error {
	return errdefs.Conflict("conflict: unable to delete %s (%s) - %s", what, how, why)
}

const (
	mustForce   = "must be forced"
	cannotForce = "cannot be forced"
)

// Remove drops the name that ref is, and with its last name the image. An id or the
// beginning of one drops all names. Conflict when containers or other names are in the
// way; force overrides all but a running container. With o.Platforms only the content
// of those goes, which needs force.
func (s *Service) Remove(ctx context.Context, ref string, o imagetypes.RemoveOptions) ([]imagetypes.DeleteResponse, error) {
	if len(o.Platforms) > 0 && !o.Force {
		return nil, errdefs.InvalidArgument("Content will be removed from all images referencing this variant. Use —-force to force delete.")
	}
	unlock, err := s.records.Lock(ctx, "")
	if err != nil {
		return nil, err
	}
	defer unlock()
	ctx = context.WithoutCancel(ctx)

	img, all, err := s.findAll(ctx, ref)
	if err != nil {
		return nil, err
	}
	r := &removal{s: s, ref: ref, all: all, id: all[0].Target.Digest, options: o}
	if !o.Force {
		r.mind = conflictSoft
	}
	if img == nil {
		return r.byDigest(ctx)
	}
	return r.byName(ctx, *img)
}

// removal is one Remove; all records in it have the same target.
type removal struct {
	s       *Service
	ref     string
	id      digest.Digest
	all     []image.Image
	options imagetypes.RemoveOptions
	mind    conflict // which soft conflicts stop it
	records []imagetypes.DeleteResponse
}

// byDigest removes by an id, or by a repository with a digest.
func (r *removal) byDigest(ctx context.Context) ([]imagetypes.DeleteResponse, error) {
	var named reference.Named
	if !isIDPrefix(r.id, r.ref) {
		if n, err := reference.ParseNormalizedNamed(r.ref); err == nil {
			named = n
		}
	}
	same := sameReferences(named, r.all)
	if len(same) == 0 && named != nil {
		return nil, noSuchImage(named)
	}
	if len(same) == len(r.all) {
		r.mind &^= conflictReference
	}
	if named != nil && len(same) != len(r.all) && len(r.options.Platforms) == 0 {
		return r.untag(ctx, same)
	}
	return r.finish(ctx)
}

// byName removes a name, or all when the name was given as a dangling one.
func (r *removal) byName(ctx context.Context, img image.Image) ([]imagetypes.DeleteResponse, error) {
	if isIDPrefix(r.id, r.ref) || isDangling(img) {
		return r.finish(ctx)
	}
	named, err := reference.ParseNormalizedNamed(img.Name)
	if err != nil {
		return nil, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	same := sameReferences(named, r.all)
	if len(same) != len(r.all) {
		if len(r.options.Platforms) > 0 {
			return r.finish(ctx)
		}
		return r.untag(ctx, same)
	}
	if len(r.all) > 1 {
		r.mind &^= conflictReference
	}
	if users := r.s.usersOf(r.id); len(users) > 0 {
		return r.nameInUse(ctx, img, reference.FamiliarString(named), users[0])
	}
	return r.finish(ctx)
}

// nameInUse is the removal of the last name of an image that a container was made of:
// forced, the image stays without a name.
func (r *removal) nameInUse(ctx context.Context, img image.Image, name string, u User) ([]imagetypes.DeleteResponse, error) {
	if !r.options.Force {
		return nil, conflictError(name, mustForce, fmt.Sprintf("container %s is using its referenced image %s",
			shortID(u.ContainerID), shortID(r.id.String())))
	}
	if len(r.options.Platforms) > 0 {
		return r.finish(ctx)
	}
	if err := r.s.keepDangling(ctx, img); err != nil {
		return nil, err
	}
	return r.untag(ctx, []image.Image{img})
}

// finish deletes the image whole, or the platforms asked for.
func (r *removal) finish(ctx context.Context) ([]imagetypes.DeleteResponse, error) {
	if len(r.options.Platforms) > 0 {
		return r.platforms(ctx)
	}
	return r.deleteAll(ctx)
}

// untag drops names of an image that keeps others.
func (r *removal) untag(ctx context.Context, imgs []image.Image) ([]imagetypes.DeleteResponse, error) {
	for _, img := range imgs {
		if err := r.drop(ctx, img, false); err != nil {
			return nil, err
		}
	}
	return r.records, nil
}

// drop deletes one record and tells of it.
func (r *removal) drop(ctx context.Context, img image.Image, sync bool) error {
	if err := r.s.Images.Delete(ctx, img.Name, sync, nil); err != nil {
		return fmt.Errorf("delete image record %s: %w", img.Name, err)
	}
	failpoint.Hit("daemon/image.remove.forgotten")
	if isDangling(img) {
		return nil
	}
	name := familiarName(img)
	r.s.publish(events.ActionUnTag, img.Target.Digest, name)
	r.records = append(r.records, imagetypes.DeleteResponse{Untagged: name})
	return nil
}

// deleteAll deletes every record of the image, and those of the images that Docker's
// classic builder made it from when nothing else needs them.
func (r *removal) deleteAll(ctx context.Context) ([]imagetypes.DeleteResponse, error) {
	if err := r.s.conflictOf(r.id, len(r.all), conflictRunning|r.mind); err != nil {
		return nil, err
	}
	if err := r.keepForChildren(ctx); err != nil {
		return nil, err
	}
	var parents []image.Image
	if r.options.PruneChildren {
		parents = r.s.danglingParents(ctx, r.all)
	}
	for i, img := range r.all {
		if err := r.drop(ctx, img, i == len(r.all)-1); err != nil {
			return r.records, err
		}
	}
	r.deleted(r.id)
	for _, p := range parents {
		if r.s.conflictOf(p.Target.Digest, 1, conflictRunning|conflictStopped) != nil || r.drop(ctx, p, true) != nil {
			break
		}
		r.deleted(p.Target.Digest)
	}
	return r.records, nil
}

func (r *removal) deleted(id digest.Digest) {
	r.s.publish(events.ActionDelete, id, id.String())
	r.records = append(r.records, imagetypes.DeleteResponse{Deleted: id.String()})
}

// keepForChildren leaves a dangling record of an image that others were built on.
func (r *removal) keepForChildren(ctx context.Context) error {
	if len(r.all) != 1 || isDangling(r.all[0]) || r.options.Force {
		return nil
	}
	children, err := r.s.Images.List(ctx, fmt.Sprintf("labels.%q==%s", labelParent, r.id))
	if err != nil || len(children) == 0 {
		return err
	}
	return r.s.keepDangling(ctx, r.all[0])
}

// danglingParents are the ancestors of the classic builder that have no name, nearest first.
func (s *Service) danglingParents(ctx context.Context, imgs []image.Image) []image.Image {
	var out []image.Image
	next := parentOf(imgs)
	for range 256 {
		d, err := digest.Parse(next)
		if err != nil {
			break
		}
		parents, err := s.byTarget(ctx, d)
		if err != nil || len(parents) != 1 || !isDangling(parents[0]) {
			break
		}
		out = append(out, parents[0])
		next = parentOf(parents)
	}
	return out
}

// conflictOf finds the first conflict of the kinds asked for.
func (s *Service) conflictOf(id digest.Digest, names int, kinds conflict) error {
	what := shortID(id.String())
	users := s.usersOf(id)
	for _, u := range users {
		if u.Running && kinds&conflictRunning != 0 {
			return conflictError(what, cannotForce, "image is being used by running container "+shortID(u.ContainerID))
		}
	}
	for _, u := range users {
		if !u.Running && kinds&conflictStopped != 0 {
			return conflictError(what, mustForce, "image is being used by stopped container "+shortID(u.ContainerID))
		}
	}
	if kinds&conflictReference != 0 && names > 1 {
		return conflictError(what, mustForce, "image is referenced in multiple repositories")
	}
	return nil
}

// platforms removes the content of some platforms, in whichever images it is.
func (r *removal) platforms(ctx context.Context) ([]imagetypes.DeleteResponse, error) {
	for _, p := range r.options.Platforms {
		m, err := r.s.best(ctx, r.all[0], &p)
		if err == nil {
			err = r.platform(ctx, m.desc)
		}
		if err != nil {
			return nil, fmt.Errorf("failed to delete platform %s for image %s: %w", platforms.Format(p), r.id, err)
		}
	}
	return r.records, nil
}

func (r *removal) platform(ctx context.Context, desc ocispec.Descriptor) error {
	var below []ocispec.Descriptor
	err := r.s.walk(ctx, desc, func(d ocispec.Descriptor) error { below = append(below, d); return nil })
	if err != nil {
		return err
	}
	for _, d := range below {
		r.s.blobs.drop(d.Digest)
		err := r.s.Content.Delete(ctx, d.Digest)
		if errdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return err
		}
		if coremanifest.IsManifest(d.MediaType) || coremanifest.IsIndex(d.MediaType) {
			r.records = append(r.records, imagetypes.DeleteResponse{Deleted: d.Digest.String()})
		}
	}
	return nil
}

// sameReferences selects the records that are the same name as named: the same
// repository and tag, or the same repository by digest when no other tag of it is among
// them; dangling records always. Without a name the first record's is taken.
func sameReferences(named reference.Named, imgs []image.Image) []image.Image {
	var same, digests []image.Image
	tag, allTags, otherTags := "", false, false
	if named != nil {
		tag = tagOf(named)
		_, digested := named.(reference.Digested)
		allTags = tag == "" && digested
	}
	for _, img := range imgs {
		ref, err := reference.ParseNamed(img.Name)
		switch {
		case isDangling(img) || err != nil:
			same = append(same, img)
			continue
		case named == nil:
			named, tag = ref, tagOf(ref)
		case named.Name() != ref.Name():
			continue
		}
		switch other := tagOf(ref); {
		case allTags || other != "" && (tag == "" || other == tag):
			same = append(same, img)
			if tag == "" && !allTags {
				tag = other
			}
		case other == "":
			digests = append(digests, img)
		default:
			otherTags = true
		}
	}
	if otherTags {
		return same
	}
	return append(same, digests...)
}

func tagOf(ref reference.Named) string {
	if t, ok := ref.(reference.Tagged); ok {
		return t.Tag()
	}
	return ""
}
