package image

import (
	"context"
	"sync"

	"github.com/containerd/platforms"
	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/identity"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/content"
	"gantry/libctr/core/image"
	"gantry/libctr/core/snapshot"
)

// inventory is one look at what the store holds, so that a list of images costs two
// calls of the core, not one per blob.
type inventory struct {
	blobs map[digest.Digest]int64 // sizes
	snaps map[string]bool         // committed snapshots of layers
	users []User                  // all containers
}

func (s *Service) takeInventory(ctx context.Context) (*inventory, error) {
	inv := &inventory{blobs: map[digest.Digest]int64{}, snaps: map[string]bool{}, users: s.usersOf("")}
	err := s.Content.Walk(ctx, func(i content.Info) error { inv.blobs[i.Digest] = i.Size; return nil })
	if err != nil {
		return nil, err
	}
	all := map[string]bool{}
	err = s.Snapshots.Walk(ctx, func(i snapshot.Info) error {
		all[i.Name] = true
		if i.Kind == snapshot.KindCommitted && !isInit(i.Name) {
			inv.snaps[i.Name] = true
		}
		return nil
	})
	if err == nil {
		s.forgetGone(all)
	}
	return inv, err
}

// forgetGone drops what is remembered of snapshots that are no more: the collector takes
// them without a word.
func (s *Service) forgetGone(there map[string]bool) {
	for _, remembered := range []*sync.Map{&s.usages, &s.parents} {
		remembered.Range(func(name, _ any) bool {
			if !there[name.(string)] {
				remembered.Delete(name)
			}
			return true
		})
	}
}

// usage is the disk use of one committed snapshot, 0 when it is not there.
func (s *Service) usage(ctx context.Context, inv *inventory, chain digest.Digest) (int64, error) {
	if !inv.snaps[chain.String()] {
		s.usages.Delete(chain.String())
		return 0, nil
	}
	u, err := s.usageOf(ctx, chain.String())
	if errdefs.IsNotFound(err) {
		return 0, nil
	}
	return u.Size, err
}

// LayersSize is what all images take on disk, in bytes: their blobs and unpacked layers,
// each counted once.
func (s *Service) LayersSize(ctx context.Context) (int64, error) {
	inv, err := s.takeInventory(ctx)
	if err != nil {
		return 0, err
	}
	var sum int64
	for name := range inv.snaps {
		size, err := s.usage(ctx, inv, digest.Digest(name))
		if err != nil {
			return 0, err
		}
		sum += size
	}
	recs, err := s.Images.List(ctx)
	if err != nil {
		return 0, err
	}
	counted := map[digest.Digest]bool{}
	for _, img := range recs {
		err := s.walk(ctx, img.Target, func(d ocispec.Descriptor) error {
			if size, ok := inv.blobs[d.Digest]; ok && !counted[d.Digest] {
				counted[d.Digest] = true
				sum += size
			}
			return nil
		})
		if err != nil {
			s.log.WarnContext(ctx, "measure image", "image", img.Name, "err", err)
		}
	}
	return sum, nil
}

// summary is what is known of an image with all its platforms.
type summary struct {
	manifests  []imagetypes.ManifestSummary
	chains     []digest.Digest // of all layers of all platforms
	size       int64           // blobs and snapshots
	containers int64
	best       *manifest // nil when no platform that is wanted is here
}

func (s *Service) summarize(ctx context.Context, inv *inventory, img image.Image, pm platforms.MatchComparer) (*summary, error) {
	descs, err := s.manifests(ctx, img.Target)
	if errdefs.IsInvalidArgument(err) {
		s.log.WarnContext(ctx, "image target is neither manifest nor index", "image", img.Name, "err", err)
		return &summary{}, nil
	}
	if err != nil {
		return nil, err
	}
	sum := &summary{}
	for _, d := range descs {
		if err := s.addManifest(ctx, inv, sum, img, d, pm); err != nil {
			return nil, err
		}
	}
	return sum, nil
}

// addManifest counts one manifest. What is wrong with its content leaves it counted as
// unknown: one bad image must not hide the others from a list.
func (s *Service) addManifest(ctx context.Context, inv *inventory, sum *summary, img image.Image, desc ocispec.Descriptor, pm platforms.MatchComparer) error {
	entry := imagetypes.ManifestSummary{ID: desc.Digest.String(), Descriptor: desc, Kind: imagetypes.ManifestKindUnknown}
	defer func() { sum.manifests = append(sum.manifests, entry) }()

	present, missing := int64(0), false
	err := s.walk(ctx, desc, func(d ocispec.Descriptor) error {
		size, ok := inv.blobs[d.Digest]
		present += size
		missing = missing || !ok
		return nil
	})
	if err != nil {
		s.log.WarnContext(ctx, "measure image", "image", img.Name, "manifest", desc.Digest, "err", err)
	}
	entry.Available = !missing && err == nil
	entry.Size.Content = present
	entry.Size.Total = present
	sum.size += present

	body, err := s.readManifest(ctx, desc)
	if err != nil && !errdefs.IsNotFound(err) {
		s.log.WarnContext(ctx, "read manifest", "image", img.Name, "manifest", desc.Digest, "err", err)
		return nil
	}
	if isPseudo(desc, body) {
		if d, err := digest.Parse(desc.Annotations[annotationReferenceFor]); err == nil && isAttestation(desc) {
			entry.Kind = imagetypes.ManifestKindAttestation
			entry.AttestationData = &imagetypes.AttestationProperties{For: d}
		}
		return nil
	}
	entry.Kind = imagetypes.ManifestKindImage
	entry.ImageData = &imagetypes.ImageProperties{}
	if desc.Platform != nil {
		entry.ImageData.Platform = *desc.Platform
	}
	if !entry.Available {
		return nil
	}
	return s.addImage(ctx, inv, sum, &entry, img, desc, pm)
}

func (s *Service) addImage(ctx context.Context, inv *inventory, sum *summary, entry *imagetypes.ManifestSummary, img image.Image, desc ocispec.Descriptor, pm platforms.MatchComparer) error {
	m, err := s.readImage(ctx, desc)
	if err != nil {
		s.log.WarnContext(ctx, "read image config", "image", img.Name, "manifest", desc.Digest, "err", err)
		return nil
	}
	entry.ImageData.Platform = m.platform()
	chains := identity.ChainIDs(append([]digest.Digest{}, m.config.RootFS.DiffIDs...))
	for _, c := range chains {
		size, err := s.usage(ctx, inv, c)
		if err != nil {
			return err
		}
		entry.ImageData.Size.Unpacked += size
	}
	entry.Size.Total += entry.ImageData.Size.Unpacked
	sum.size += entry.ImageData.Size.Unpacked
	sum.chains = append(sum.chains, chains...)
	for _, u := range inv.users {
		if u.ImageID == img.Target.Digest && (u.Manifest == "" || u.Manifest == desc.Digest) {
			entry.ImageData.Containers = append(entry.ImageData.Containers, u.ContainerID)
			sum.containers++
		}
	}
	if better(pm, m, sum.best) {
		sum.best = m
	}
	return nil
}
