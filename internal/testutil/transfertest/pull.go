package transfertest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/manifest"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/core/transfer"
)

func pull(s subject) {
	ref, want := s.fill("1")
	h := s.pull(ref, &transfer.ImageStore{Name: ref, Labels: map[string]string{"a": "b"}})
	img, err := s.Images.Get(s.ctx, ref)
	s.must(err)
	if img.Target.Digest != want.Digest || img.Target.MediaType != ocispec.MediaTypeImageManifest || img.Target.Size != want.Size || img.Labels["a"] != "b" {
		s.Errorf("image %+v", img)
	}
	children := s.children(want)
	labels := s.labels(want)
	for key, d := range map[string]ocispec.Descriptor{"config": children[0], "l.0": children[1], "l.1": children[2]} {
		if labels["containerd.io/gc.ref.content."+key] != d.Digest.String() {
			s.Errorf("label %s: %v", key, labels)
		}
		s.has(d, true)
		if got := s.labels(d)["containerd.io/distribution.source.127.0.0.1"]; !strings.HasPrefix(got, "suite/") {
			s.Errorf("source of %s: %q", d.MediaType, got)
		}
	}
	s.noLeases()

	if got, want := h.events(""), []string{
		"Resolving from OCI Registry (" + ref + ")", "Pulling from OCI Registry (" + ref + ")", "Completed pull from OCI Registry (" + ref + ")",
	}; !slices.Equal(got, want) {
		s.Errorf("sentences %q", got)
	}
	if got := h.events(ref); !slices.Equal(got, []string{"fetching image content", "saved"}) {
		s.Errorf("events of the image %q", got)
	}
	for _, d := range append(children, want) {
		got := h.events(manifest.Ref(d))
		if len(got) < 2 || got[0] != "waiting" || got[len(got)-1] != "complete" && got[len(got)-1] != "already exists" {
			s.Errorf("events of %s: %q", manifest.Ref(d), got)
		}
	}
	for _, p := range h.list {
		switch {
		case p.Name == manifest.Ref(want) && !slices.Equal(p.Parents, []string{ref}):
			s.Errorf("parents of the manifest: %q", p.Parents)
		case p.Name == manifest.Ref(children[1]) && p.Event != "already exists" && !slices.Equal(p.Parents, []string{manifest.Ref(want)}):
			s.Errorf("parents of a layer at %s: %q", p.Event, p.Parents)
		}
	}
}

func (s subject) unpacks() []transfer.Unpack {
	return []transfer.Unpack{{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}, Snapshotter: s.Snapshotter}}
}

// chain is the name of the snapshot of an image's layers.
func chain(diffIDs ...digest.Digest) string {
	out := diffIDs[0]
	for _, d := range diffIDs[1:] {
		out = digest.FromString(out.String() + " " + d.String())
	}
	return out.String()
}

func pullUnpack(s subject) {
	var layers [][]byte
	var ids []digest.Digest
	for i := range 6 {
		plain, id := Layer(fmt.Sprintf("file%d", i), s.Name())
		switch i % 3 {
		case 0:
			plain = gzipped(plain)
		case 1:
			plain = zstandard(plain)
		}
		layers, ids = append(layers, plain), append(ids, id)
	}
	var m ocispec.Manifest
	m.MediaType, m.SchemaVersion = ocispec.MediaTypeImageManifest, 2
	m.Config = s.registry.Blob("suite/unpack", ocispec.MediaTypeImageConfig, fmt.Appendf(nil,
		`{"architecture":%q,"os":"linux","rootfs":{"type":"layers","diff_ids":["%s"]}}`, runtime.GOARCH, strings.Join(texts(ids), `","`)))
	for i, p := range layers {
		mt := []string{ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd, ocispec.MediaTypeImageLayer}[i%3]
		m.Layers = append(m.Layers, s.registry.Blob("suite/unpack", mt, p))
	}
	s.registry.Manifest("suite/unpack", "1", m.MediaType, marshal(m))
	ref := s.registry.Host + "/suite/unpack:1"
	h := s.pull(ref, &transfer.ImageStore{Name: ref, Unpacks: s.unpacks()})
	info, err := s.Snapshots.Stat(s.ctx, chain(ids...))
	s.must(err)
	if info.Kind != snapshot.KindCommitted || info.Parent != chain(ids[:5]...) {
		s.Errorf("snapshot %+v", info)
	}
	if got := s.labels(m.Config)["containerd.io/gc.ref.snapshot."+s.Snapshotter]; got != chain(ids...) {
		s.Errorf("the config keeps the snapshot %q", got)
	}
	for i, l := range m.Layers {
		if got := h.events(manifest.Ref(l)); !s.Containerd && !slices.Contains(got, "extracting") || got[len(got)-1] != "extracted" {
			s.Errorf("events of layer %d: %q", i, got)
		}
		if got := s.labels(l)["containerd.io/uncompressed"]; got != ids[i].String() {
			s.Errorf("diff id of layer %d: %q", i, got)
		}
	}
	s.noLeases()
}

// pullDocker takes a list of manifests of Docker's schema 2.
func pullDocker(s subject) {
	plain, id := Layer("file", s.Name())
	var m ocispec.Manifest
	m.MediaType, m.SchemaVersion = manifest.DockerManifest, 2
	m.Config = s.registry.Blob("suite/docker", manifest.DockerConfig, fmt.Appendf(nil,
		`{"architecture":%q,"os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, runtime.GOARCH, id))
	m.Layers = []ocispec.Descriptor{s.registry.Blob("suite/docker", "application/vnd.docker.image.rootfs.diff.tar.gzip", gzipped(plain))}
	d := s.registry.Manifest("suite/docker", "one", m.MediaType, marshal(m))
	d.Platform = &ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}
	index := ocispec.Index{MediaType: manifest.DockerList, Manifests: []ocispec.Descriptor{d}}
	index.SchemaVersion = 2
	list := s.registry.Manifest("suite/docker", "1", index.MediaType, marshal(index))
	ref := s.registry.Host + "/suite/docker:1"
	s.pull(ref, &transfer.ImageStore{Name: ref, Unpacks: s.unpacks()})
	img, err := s.Images.Get(s.ctx, ref)
	s.must(err)
	if img.Target.MediaType != manifest.DockerList || img.Target.Digest != list.Digest {
		s.Errorf("image %+v", img.Target)
	}
	_, err = s.Snapshots.Stat(s.ctx, chain(id))
	s.must(err)
}

// pullShown shows what goes over the wire.
func pullShown(s subject) {
	ref, want := s.fill("1")
	var log closer
	r := &transfer.Registry{Reference: ref, Debug: transfer.DebugMessages, DebugLog: &log}
	s.must(s.Transfers.Transfer(s.ctx, r, &transfer.ImageStore{Name: ref}, transfer.Options{}))
	for _, text := range []string{"HEAD /v2/suite/", "GET /v2/suite/", want.Digest.String(), "200 OK"} {
		if !strings.Contains(log.String(), text) {
			s.Errorf("no %q in\n%s", text, log.String())
		}
	}
}

func pullPlatforms(s subject) {
	ref, index, host, other := s.fillIndex("1")
	s.pull(ref, &transfer.ImageStore{Name: ref, Platforms: []ocispec.Platform{{OS: "linux", Architecture: runtime.GOARCH}}})
	s.has(host, true)
	s.has(other, false)
	labels := s.labels(index)
	if labels["containerd.io/gc.ref.content.m.0"] != other.Digest.String() || labels["containerd.io/gc.ref.content.m.1"] != host.Digest.String() {
		s.Errorf("labels %v", labels)
	}
	s.pull(ref, &transfer.ImageStore{Name: ref})
	s.has(other, true)
}

func pullMetadata(s subject) {
	ref, _, host, other := s.fillIndex("1")
	s.pull(ref, &transfer.ImageStore{Name: ref, AllMetadata: true, Unpacks: s.unpacks(), Platforms: []ocispec.Platform{{OS: "linux", Architecture: runtime.GOARCH}}})
	s.has(s.children(host)[2], true)
	children := s.children(other)
	s.has(children[0], true)
	s.has(children[2], false)
}

func pullLimit(s subject) {
	ref, _, host, other := s.fillIndex("1")
	s.pull(ref, &transfer.ImageStore{Name: ref, ManifestLimit: 1, Platforms: []ocispec.Platform{
		{OS: "linux", Architecture: runtime.GOARCH}, {OS: "linux", Architecture: "s390x"}}})
	s.has(host, true)
	s.has(other, false)
	err := s.Transfers.Transfer(s.ctx, &transfer.Registry{Reference: ref}, &transfer.ImageStore{Name: "x", ManifestLimit: 1,
		Platforms: []ocispec.Platform{{OS: "plan9", Architecture: "mips"}}}, transfer.Options{})
	s.is("no platform", err, errdefs.ErrNotFound)
}

func pullNames(s subject) {
	ref, want := s.fill("1")
	s.pull(ref, &transfer.ImageStore{Name: ref, ExtraReferences: []transfer.Reference{
		{Name: "other:2"}, {Name: "by", IsPrefix: true, AddDigest: true}, {Name: "unused", IsPrefix: true}}})
	list, err := s.Images.List(s.ctx)
	s.must(err)
	var names []string
	for _, img := range list {
		names = append(names, img.Name)
		if parent := img.Labels["containerd.io/gc.bref.image"]; (parent == ref) != (img.Name != ref) {
			s.Errorf("%s goes with %q", img.Name, parent)
		}
	}
	slices.Sort(names)
	expected := []string{ref, "by@" + want.Digest.String(), "other:2"}
	slices.Sort(expected)
	if !slices.Equal(names, expected) {
		s.Errorf("names %q", names)
	}
	s.is("no name", s.Transfers.Transfer(s.ctx, &transfer.Registry{Reference: ref}, &transfer.ImageStore{}, transfer.Options{}), errdefs.ErrNotFound)
}

type account struct {
	transfer.Secret
	err error
}

func (a account) Get(context.Context, string, string) (transfer.Secret, error) {
	return a.Secret, a.err
}

func pullCredentials(s subject) {
	ref, _ := s.fill("1")
	ref = strings.Replace(ref, s.registry.Host, s.private.Host, 1)
	into := &transfer.ImageStore{Name: ref}
	try := func(c transfer.Credentials) error {
		return s.Transfers.Transfer(s.ctx, &transfer.Registry{Reference: ref, Credentials: c}, into, transfer.Options{})
	}
	if err := try(nil); err == nil {
		s.Error("pulled without credentials")
	}
	if err := try(account{Secret: transfer.Secret{Username: "x", Secret: "y"}}); err == nil {
		s.Error("pulled with wrong credentials")
	}
	if err := try(account{err: errors.New("none here")}); err == nil {
		s.Error("pulled without an answer")
	}
	if !s.Containerd { // takes a header and forgets it
		s.must(try(account{Secret: transfer.Secret{Header: "Basic dGVzdGVyOnNlY3JldA=="}}))
	}
	s.must(try(account{Secret: secret}))
	s.noLeases()
}

func pullAgain(s subject) {
	ref, want := s.fill("1")
	s.pull(ref, &transfer.ImageStore{Name: ref})
	h := s.pull(ref, &transfer.ImageStore{Name: "another:1"})
	if got := h.events(manifest.Ref(want)); !slices.Equal(got, []string{"waiting", "already exists"}) {
		s.Errorf("events %q", got)
	}
}

func pullTogether(s subject) {
	ref, _ := s.fill("1")
	errs := make(chan error, 6)
	for i := range cap(errs) {
		go func() {
			errs <- s.Transfers.Transfer(s.ctx, &transfer.Registry{Reference: ref},
				&transfer.ImageStore{Name: fmt.Sprintf("%s-%d", ref, i), Unpacks: s.unpacks()}, transfer.Options{})
		}()
	}
	for range cap(errs) {
		s.must(<-errs)
	}
	list, err := s.Images.List(s.ctx)
	s.must(err)
	if len(list) != cap(errs) {
		s.Errorf("%d images", len(list))
	}
}

func pullAbsent(s subject) {
	err := s.Transfers.Transfer(s.ctx, &transfer.Registry{Reference: s.registry.Host + "/no/such:image"}, &transfer.ImageStore{Name: "x"}, transfer.Options{})
	s.is("pull", err, errdefs.ErrNotFound)
	if err == nil || !strings.Contains(err.Error(), "failed to resolve image: ") {
		s.Errorf("text %v", err)
	}
	s.noLeases()
}

func pullLeased(s subject) {
	ref, want := s.fill("1")
	l, err := s.Leases.Create(s.ctx, "own", nil)
	s.must(err)
	s.must(s.Transfers.Transfer(lease.With(s.ctx, l.ID), &transfer.Registry{Reference: ref}, &transfer.ImageStore{Name: ref}, transfer.Options{}))
	held, err := s.Leases.ListResources(s.ctx, l.ID)
	s.must(err)
	if !slices.Contains(held, lease.Resource{ID: want.Digest.String(), Type: "content"}) {
		s.Errorf("the lease holds %v", held)
	}
}

func pullWrong(s subject) {
	img := testImage(runtime.GOARCH, s.Name())
	img.DiffIDs[1] = digest.FromString("something else")
	s.registry.Push("suite/wrong", "1", img)
	ref := s.registry.Host + "/suite/wrong:1"
	err := s.Transfers.Transfer(s.ctx, &transfer.Registry{Reference: ref}, &transfer.ImageStore{Name: ref, Unpacks: s.unpacks()}, transfer.Options{})
	s.wrong("pull", err)
	if _, err := s.Images.Get(s.ctx, ref); !errdefs.IsNotFound(err) {
		s.Errorf("the image is there: %v", err)
	}
	img.DiffIDs = img.DiffIDs[:1]
	s.registry.Push("suite/wrong", "2", img)
	ref = s.registry.Host + "/suite/wrong:2"
	err = s.Transfers.Transfer(s.ctx, &transfer.Registry{Reference: ref}, &transfer.ImageStore{Name: ref, Unpacks: s.unpacks()}, transfer.Options{})
	s.wrong("pull with too few diff ids", err)
	s.noLeases()
}

// wrong: containerd gives such errors no class.
func (s subject) wrong(what string, err error) {
	s.Helper()
	if err == nil || !s.Containerd && !errdefs.IsInvalidArgument(err) {
		s.Errorf("%s: %v, want class %v", what, err, errdefs.ErrInvalidArgument)
	}
}

func pullCancelled(s subject) {
	ref, _ := s.fill("1")
	ctx, cancel := context.WithCancel(s.ctx)
	h := &heard{}
	o := h.options()
	tell := o.Progress
	o.Progress = func(p transfer.Progress) {
		tell(p)
		cancel()
	}
	if err := s.Transfers.Transfer(ctx, &transfer.Registry{Reference: ref}, &transfer.ImageStore{Name: ref}, o); err == nil {
		// It may have been done before the word came through; then it is whole.
		_, err := s.Images.Get(s.ctx, ref)
		s.must(err)
	}
	s.pull(ref, &transfer.ImageStore{Name: ref})
}
