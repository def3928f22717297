package image

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/image"
	coremanifest "gantry/libctr/core/manifest"
)

// Prune deletes the images without a name, with the filter dangling=false all that no
// container uses. Conflict while another prune runs.
func (s *Service) Prune(ctx context.Context, args filters.Args) (*imagetypes.PruneReport, error) {
	if !s.pruning.CompareAndSwap(false, true) {
		return nil, errdefs.Conflict("a prune operation is already running")
	}
	defer s.pruning.Store(false)

	if err := args.Validate(pruneFilters); err != nil {
		return nil, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	danglingOnly, err := args.GetBoolOrDefault("dangling", true)
	if err != nil {
		return nil, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	args = args.Clone()
	for _, v := range args.Get("dangling") {
		args.Del("dangling", v) // here it says how much to prune, not which
	}
	keep, err := s.filter(ctx, args, pruneFilters)
	if err != nil {
		return nil, err
	}
	if err := s.pruneLeases(ctx); err != nil {
		return nil, err
	}
	report, err := s.pruneUnused(ctx, keep, danglingOnly)
	if report != nil {
		s.events.Publish(events.ImageEventType, events.ActionPrune, events.Actor{Attributes: map[string]string{
			"reclaimed": strconv.FormatUint(report.SpaceReclaimed, 10),
		}})
	}
	return report, err
}

// pruneLeases drops what interrupted pulls have kept for their next try. Leases of
// operations that still run are theirs.
func (s *Service) pruneLeases(ctx context.Context) error {
	leases, err := s.Leases.List(ctx, fmt.Sprintf("labels.%q", labelPrunable))
	if err != nil {
		return fmt.Errorf("list leases: %w", err)
	}
	for _, l := range leases {
		if s.held.running(l.ID) {
			continue
		}
		if err := s.Leases.Delete(ctx, l.ID, false); err != nil && !errdefs.IsNotFound(err) {
			return fmt.Errorf("delete lease %s: %w", l.ID, err)
		}
	}
	return nil
}

func (s *Service) pruneUnused(ctx context.Context, keep keepFunc, danglingOnly bool) (*imagetypes.PruneReport, error) {
	unlock, err := s.records.Lock(ctx, "")
	if err != nil {
		return nil, err
	}
	defer unlock()
	recs, err := s.Images.List(ctx)
	if err != nil {
		return nil, err
	}
	report := &imagetypes.PruneReport{}
	var errs []error
	for _, img := range prunable(recs, s.usersOf(""), keep, danglingOnly) {
		if err := ctx.Err(); err != nil {
			return report, err
		}
		if err := s.pruneImage(context.WithoutCancel(ctx), img, report); err != nil {
			errs = append(errs, err)
		}
	}
	return report, errors.Join(errs...)
}

// prunable chooses, by name: records that keep lets go and no container needs. The last
// record of a target that a container names by its id stays.
func prunable(recs []image.Image, users []User, keep keepFunc, danglingOnly bool) []image.Image {
	names, targets := usedBy(users)
	count := map[digest.Digest]int{}
	var out []image.Image
	for _, img := range recs {
		count[img.Target.Digest]++
		if (!danglingOnly || isDangling(img)) && !names[img.Name] && keep(img) {
			out = append(out, img)
		}
	}
	slices.SortFunc(out, func(a, b image.Image) int { return strings.Compare(a.Name, b.Name) })
	return slices.DeleteFunc(out, func(img image.Image) bool {
		d := img.Target.Digest
		count[d]--
		return count[d] == 0 && targets[d]
	})
}

// usedBy collects the names that containers were created with, and the targets that
// they were created with by id or digest.
func usedBy(users []User) (names map[string]bool, targets map[digest.Digest]bool) {
	names, targets = map[string]bool{}, map[digest.Digest]bool{}
	for _, u := range users {
		names[danglingName(u.ImageID)] = true
		id := u.ImageID.String()
		if strings.HasPrefix(id, "sha256:"+strings.TrimPrefix(u.Ref, "sha256:")) || strings.HasSuffix(u.Ref, "@"+id) {
			targets[u.ImageID] = true
		}
		ref, err := reference.ParseNormalizedNamed(u.Ref)
		if err != nil {
			continue
		}
		ref = reference.TagNameOnly(ref)
		names[ref.String()] = true
		if _, ok := ref.(reference.Digested); ok && tagOf(ref) != "" {
			names[ref.Name()+":"+tagOf(ref)] = true
		}
	}
	return names, targets
}

// pruneImage drops one record and reports what went with it. It is not ended halfway.
func (s *Service) pruneImage(ctx context.Context, img image.Image, report *imagetypes.PruneReport) error {
	var blobs []ocispec.Descriptor
	if err := s.walk(ctx, img.Target, func(d ocispec.Descriptor) error { blobs = append(blobs, d); return nil }); err != nil {
		return err
	}
	before := map[digest.Digest]int64{}
	for _, b := range blobs {
		if info, err := s.Content.Info(ctx, b.Digest); err == nil {
			before[b.Digest] = info.Size
		}
	}
	err := s.Images.Delete(ctx, img.Name, true, nil)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("delete image record %s: %w", img.Name, err)
	}
	name := familiarName(img)
	s.publish(events.ActionUnTag, img.Target.Digest, name)
	report.ImagesDeleted = append(report.ImagesDeleted, imagetypes.DeleteResponse{Untagged: name})
	deleted := false
	for _, b := range blobs {
		size, was := before[b.Digest]
		if ok, err := s.hasBlob(ctx, b.Digest); !was || ok || err != nil {
			continue
		}
		s.blobs.drop(b.Digest)
		report.SpaceReclaimed += uint64(size)
		if coremanifest.IsManifest(b.MediaType) || coremanifest.IsIndex(b.MediaType) {
			deleted = true
			report.ImagesDeleted = append(report.ImagesDeleted, imagetypes.DeleteResponse{Deleted: b.Digest.String()})
		}
	}
	if deleted {
		s.publish(events.ActionDelete, img.Target.Digest, name)
	}
	return nil
}
