// Package transfertest is what a Transferrer must do, in this process or through gRPC,
// against Debian's docker-registry.
package transfertest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/internal/testutil/registrytest"
	"gantry/libctr/core/content"
	"gantry/libctr/core/image"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/manifest"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/core/transfer"
)

// Subject is a transferrer and what it works on; each test has a namespace of its own.
type Subject struct {
	Transfers   transfer.Transferrer
	Content     content.Store
	Images      image.Store
	Leases      lease.Manager
	Snapshots   snapshot.Snapshotter
	Snapshotter string // its name
	// Containerd: it is a real one, of which what it is known not to do is not asked.
	Containerd bool
}

// Run runs the suite.
func Run(t *testing.T, on Subject) {
	registry := registrytest.Start(t)
	private := registry.Private(t)
	for name, fn := range map[string]func(subject){
		"pull":                       pull,
		"pull: unpack":               pullUnpack,
		"pull: Docker's types":       pullDocker,
		"pull: shown":                pullShown,
		"pull: platforms":            pullPlatforms,
		"pull: metadata of all":      pullMetadata,
		"pull: limit":                pullLimit,
		"pull: further names":        pullNames,
		"pull: credentials":          pullCredentials,
		"pull: what is there":        pullAgain,
		"pull: side by side":         pullTogether,
		"pull: not there":            pullAbsent,
		"pull: under a lease":        pullLeased,
		"pull: wrong diff ids":       pullWrong,
		"pull: cancelled":            pullCancelled,
		"push":                       push,
		"push: credentials":          pushPrivate,
		"push: one platform":         pushPlatform,
		"tag":                        tag,
		"import and export":          archives,
		"import: names":              importNames,
		"import: broken":             importBroken,
		"bytes through":              echo,
		"pairs that nobody supports": pairs,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := "testing-" + strings.ToLower(rand.Text())
			fn(subject{t, reqctx.WithNamespace(t.Context(), ns), on, registry, private})
		})
	}
}

type subject struct {
	*testing.T
	ctx context.Context
	Subject
	registry, private *registrytest.Registry
}

func (s subject) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s subject) is(what string, err, class error) {
	s.Helper()
	if !errors.Is(err, class) {
		s.Errorf("%s: %v, want class %v", what, err, class)
	}
}

// heard collects progress.
type heard struct {
	mu   sync.Mutex
	list []transfer.Progress
}

func (h *heard) options() transfer.Options {
	return transfer.Options{Progress: func(p transfer.Progress) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.list = append(h.list, p)
	}}
}

// events of a name, or whole sentences for "".
func (h *heard) events(name string) (out []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.list {
		if p.Name == name {
			out = append(out, p.Event)
		}
	}
	return out
}

// Layer is a tar with one file, and its diff id.
func Layer(name, text string) (plain []byte, diffID digest.Digest) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))})
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.Bytes(), digest.FromBytes(b.Bytes())
}

func gzipped(p []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(p)
	_ = w.Close()
	return b.Bytes()
}

func zstandard(p []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(p, nil)
}

// image of two layers, the second with a unique file.
func testImage(arch, unique string) registrytest.Image {
	one, a := Layer("base", "base\n")
	two, b := Layer("unique", unique)
	return registrytest.Image{Architecture: arch, Layers: [][]byte{gzipped(one), two}, DiffIDs: []digest.Digest{a, b}}
}

// fill pushes the test's image and returns its reference and target.
func (s subject) fill(tag string) (string, ocispec.Descriptor) {
	s.Helper()
	repository := "suite/" + strings.ToLower(strings.NewReplacer("/", "-", ":", "", "_", "-", " ", "").Replace(s.Name()))
	d := s.registry.Push(repository, tag, testImage(runtime.GOARCH, s.Name()+tag))
	return s.registry.Host + "/" + repository + ":" + tag, d
}

// fillIndex is fill with a further platform.
func (s subject) fillIndex(tag string) (ref string, index, host, other ocispec.Descriptor) {
	s.Helper()
	ref, host = s.fill(tag)
	repository := strings.TrimSuffix(strings.TrimPrefix(ref, s.registry.Host+"/"), ":"+tag)
	other = s.registry.Push(repository, tag+"-s390x", testImage("s390x", s.Name()+"else"))
	index = s.registry.Index(repository, tag, other, host)
	return ref, index, host, other
}

func (s subject) pull(ref string, store *transfer.ImageStore) *heard {
	s.Helper()
	h := &heard{}
	s.must(s.Transfers.Transfer(s.ctx, &transfer.Registry{Reference: ref}, store, h.options()))
	return h
}

func (s subject) has(d ocispec.Descriptor, want bool) {
	s.Helper()
	_, err := s.Content.Info(s.ctx, d.Digest)
	if err != nil && !errdefs.IsNotFound(err) {
		s.Fatal(err)
	}
	if has := err == nil; has != want {
		s.Errorf("%s %s: there %v, want %v", d.MediaType, d.Digest, has, want)
	}
}

func (s subject) children(d ocispec.Descriptor) []ocispec.Descriptor {
	s.Helper()
	list, err := manifest.ReadChildren(s.ctx, s.Content, d)
	s.must(err)
	return list
}

func (s subject) labels(d ocispec.Descriptor) map[string]string {
	s.Helper()
	info, err := s.Content.Info(s.ctx, d.Digest)
	s.must(err)
	return info.Labels
}

// noLeases checks that a transfer has left none of its own; one that was given up is
// undone beside us.
func (s subject) noLeases() {
	s.Helper()
	var list []lease.Lease
	for range 200 {
		var err error
		list, err = s.Leases.List(s.ctx)
		s.must(err)
		if len(list) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.Errorf("leases are left: %+v", list)
}

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

var secret = transfer.Secret{Username: registrytest.User, Secret: registrytest.Password}

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

func push(s subject) {
	ref, index, _, _ := s.fillIndex("1")
	s.pull(ref, &transfer.ImageStore{Name: ref})
	to := s.registry.Host + "/pushed/here:2"
	h := &heard{}
	s.must(s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: ref}, &transfer.Registry{Reference: to}, h.options()))
	if got := h.events(""); !slices.Equal(got, []string{"Pushing to OCI Registry (" + to + ")", "Completed push to OCI Registry (" + to + ")"}) {
		s.Errorf("sentences %q", got)
	}
	if got := h.events(ref); !slices.Equal(got, []string{"pushing content", "pushed content"}) {
		s.Errorf("events of the image %q", got)
	}
	if got := h.events(manifest.Ref(index)); len(got) < 2 || got[0] != "waiting" || got[len(got)-1] != "complete" {
		s.Errorf("events of the index %q", got)
	}
	s.pull(to, &transfer.ImageStore{Name: to})
	img, err := s.Images.Get(s.ctx, to)
	s.must(err)
	if img.Target.Digest != index.Digest {
		s.Errorf("came back as %v", img.Target)
	}
	h = &heard{}
	s.must(s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: ref}, &transfer.Registry{Reference: to}, h.options()))
	if got := h.events(manifest.Ref(index)); !slices.Equal(got, []string{"waiting", "already exists"}) {
		s.Errorf("events of a second push %q", got)
	}
	s.is("push of nothing", s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: "no"}, &transfer.Registry{Reference: to}, transfer.Options{}), errdefs.ErrNotFound)
}

func pushPrivate(s subject) {
	ref, _ := s.fill("1")
	s.pull(ref, &transfer.ImageStore{Name: ref})
	to := s.private.Host + "/pushed/private:1"
	if err := s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: ref}, &transfer.Registry{Reference: to}, transfer.Options{}); err == nil {
		s.Error("pushed without credentials")
	}
	s.must(s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: ref}, &transfer.Registry{Reference: to, Credentials: account{Secret: secret}}, transfer.Options{}))
}

func pushPlatform(s subject) {
	ref, _, _, _ := s.fillIndex("1")
	platform := []ocispec.Platform{{OS: "linux", Architecture: runtime.GOARCH}}
	s.pull(ref, &transfer.ImageStore{Name: ref, Platforms: platform})
	to := s.registry.Host + "/pushed/part:1"
	err := s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: ref}, &transfer.Registry{Reference: to}, transfer.Options{})
	s.is("push of what is not there", err, errdefs.ErrNotFound)
	// The registry wants all that an index names.
	err = s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: ref, Platforms: platform}, &transfer.Registry{Reference: to}, transfer.Options{})
	if err == nil || !strings.Contains(err.Error(), "missing in your target registry") {
		s.Errorf("push of a part: %v", err)
	}
}

func tag(s subject) {
	ref, want := s.fill("1")
	s.pull(ref, &transfer.ImageStore{Name: ref})
	to := &transfer.ImageStore{Name: "other:1", Labels: map[string]string{"x": "y"}}
	for range 2 { // the second replaces it
		s.must(s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: ref}, to, transfer.Options{}))
	}
	img, err := s.Images.Get(s.ctx, "other:1")
	s.must(err)
	if img.Target.Digest != want.Digest || img.Labels["x"] != "y" {
		s.Errorf("image %+v", img)
	}
	s.is("tag of nothing", s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: "no"}, to, transfer.Options{}), errdefs.ErrNotFound)
	s.noLeases()
}

// closer is a buffer that knows when it is closed.
type closer struct {
	bytes.Buffer
	closed int
}

func (c *closer) Close() error {
	c.closed++
	return nil
}

func (s subject) export(name string, e *transfer.Export) (*closer, *heard) {
	s.Helper()
	out, h := &closer{}, &heard{}
	e.Stream = out
	s.must(s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: name}, e, h.options()))
	if out.closed != 1 {
		s.Errorf("closed %d times", out.closed)
	}
	return out, h
}

func archives(s subject) {
	ref, want := s.fill("1")
	s.pull(ref, &transfer.ImageStore{Name: ref})
	out, h := s.export(ref, &transfer.Export{})
	if got := h.events(""); !slices.Equal(got, []string{"Exporting", "Completed export"}) {
		s.Errorf("sentences %q", got)
	}
	s.must(s.Images.Delete(s.ctx, ref, true, nil))
	s.has(want, false)
	h = &heard{}
	s.must(s.Transfers.Transfer(s.ctx, &transfer.Import{Stream: bytes.NewReader(gzipped(out.Bytes()))},
		&transfer.ImageStore{ExtraReferences: []transfer.Reference{{Name: "x", IsPrefix: true, AllowOverwrite: true}}, Unpacks: s.unpacks()}, h.options()))
	if got := h.events(""); !slices.Equal(got, []string{"Importing", "Completed import"}) {
		s.Errorf("sentences %q", got)
	}
	if got := h.events(ref); !slices.Equal(got, []string{"saved"}) {
		s.Errorf("events of the image %q", got)
	}
	img, err := s.Images.Get(s.ctx, ref)
	s.must(err)
	if img.Target.Digest != want.Digest {
		s.Errorf("came back as %v", img.Target)
	}
	_, a := Layer("base", "base\n")
	_, b := Layer("unique", s.Name()+"1")
	_, err = s.Snapshots.Stat(s.ctx, chain(a, b))
	s.must(err)
	s.must(s.Images.Delete(s.ctx, ref, true, nil))
	s.has(want, false)
	s.is("export of nothing", s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: "no"}, &transfer.Export{Stream: &closer{}}, transfer.Options{}), errdefs.ErrNotFound)
	s.noLeases()
}

func importNames(s subject) {
	ref, want := s.fill("1")
	s.pull(ref, &transfer.ImageStore{Name: ref})
	out, _ := s.export(ref, &transfer.Export{})
	repository := strings.TrimSuffix(ref, ":1")
	for name, tc := range map[string]struct {
		to   transfer.ImageStore
		want []string
	}{
		"the prefix":             {transfer.ImageStore{ExtraReferences: []transfer.Reference{{Name: repository, IsPrefix: true}}}, []string{ref}},
		"part of a prefix":       {transfer.ImageStore{ExtraReferences: []transfer.Reference{{Name: repository[:len(repository)-1], IsPrefix: true}}}, nil},
		"another, with a digest": {transfer.ImageStore{ExtraReferences: []transfer.Reference{{Name: "x", IsPrefix: true, AddDigest: true}}}, []string{"x@" + want.Digest.String()}},
		"both": {transfer.ImageStore{ExtraReferences: []transfer.Reference{{Name: repository, IsPrefix: true, AddDigest: true}}},
			[]string{ref, repository + "@" + want.Digest.String()}},
		"skip the named": {transfer.ImageStore{ExtraReferences: []transfer.Reference{{Name: repository, IsPrefix: true, AddDigest: true, SkipNamedDigest: true}}}, []string{ref}},
	} {
		list, err := s.Images.List(s.ctx)
		s.must(err)
		for _, img := range list {
			s.must(s.Images.Delete(s.ctx, img.Name, false, nil))
		}
		s.must(s.Transfers.Transfer(s.ctx, &transfer.Import{Stream: bytes.NewReader(out.Bytes())}, &tc.to, transfer.Options{}))
		list, err = s.Images.List(s.ctx)
		s.must(err)
		var got []string
		for _, img := range list {
			if !strings.HasPrefix(img.Name, "x@") && !strings.HasPrefix(img.Name, repository) {
				continue
			}
			got = append(got, img.Name)
		}
		slices.Sort(got)
		slices.Sort(tc.want)
		if name == "another, with a digest" { // the index itself gets one too
			if !slices.Contains(got, tc.want[0]) {
				s.Errorf("%s: names %q, want %q", name, got, tc.want)
			}
			continue
		}
		if name == "both" || name == "skip the named" {
			got = slices.DeleteFunc(got, func(n string) bool { return strings.Contains(n, "@") && !slices.Contains(tc.want, n) })
		}
		if !slices.Equal(got, tc.want) {
			s.Errorf("%s: names %q, want %q", name, got, tc.want)
		}
	}
}

type brokenReader struct{ n int }

func (r *brokenReader) Read(p []byte) (int, error) {
	if r.n == 0 {
		return 0, errors.New("the disk is on fire")
	}
	r.n--
	return copy(p, make([]byte, 512)), nil
}

func importBroken(s subject) {
	to := &transfer.ImageStore{Name: "x"}
	for name, r := range map[string]io.Reader{"nothing": strings.NewReader(""), "no tar": strings.NewReader("hello"), "no image": bytes.NewReader(emptyTar())} {
		if err := s.Transfers.Transfer(s.ctx, &transfer.Import{Stream: r}, to, transfer.Options{}); err == nil {
			s.Errorf("%s was imported", name)
		}
	}
	err := s.Transfers.Transfer(s.ctx, &transfer.Import{Stream: &brokenReader{n: 1}}, to, transfer.Options{})
	if err == nil || !strings.Contains(err.Error(), "the disk is on fire") {
		s.Errorf("a reader that fails: %v", err)
	}
	s.noLeases()
}

func emptyTar() []byte {
	p, _ := Layer("x", "y")
	return p
}

func echo(s subject) {
	in := bytes.Repeat([]byte("0123456789abcdef"), 50_000)
	out := &closer{}
	s.must(s.Transfers.Transfer(s.ctx, &transfer.Import{Stream: bytes.NewReader(in)}, &transfer.Export{Stream: out}, transfer.Options{}))
	if !bytes.Equal(out.Bytes(), in) || out.closed != 1 {
		s.Errorf("%d bytes of %d came through, closed %d times", out.Len(), len(in), out.closed)
	}
}

func pairs(s subject) {
	for _, p := range [][2]transfer.End{
		{&transfer.Registry{Reference: "a/b:c"}, &transfer.Registry{Reference: "a/b:d"}},
		{&transfer.Registry{Reference: "a/b:c"}, &transfer.Export{Stream: &closer{}}},
		{&transfer.Import{Stream: strings.NewReader("")}, &transfer.Registry{Reference: "a/b:d"}},
	} {
		err := s.Transfers.Transfer(s.ctx, p[0], p[1], transfer.Options{})
		s.is(fmt.Sprintf("%s to %s", p[0], p[1]), err, errdefs.ErrNotImplemented)
	}
}

func texts(ids []digest.Digest) (out []string) {
	for _, d := range ids {
		out = append(out, d.String())
	}
	return out
}

func marshal(v any) []byte {
	p, err := json.Marshal(v)
	if err != nil {
		panic(err) // of the test's own values
	}
	return p
}
