package archive_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/platforms"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/internal/testutil/coretest"
	"gantry/internal/testutil/need"
	"gantry/libctr/core/archive"
	"gantry/libctr/core/content"
	"gantry/libctr/core/image"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/manifest"
)

// shelf is a core's content store with a lease.
type shelf struct {
	*testing.T
	content.Store
	ctx context.Context
}

func newShelf(t *testing.T) shelf {
	c := coretest.Start(t)
	l, err := c.Leases().Create(t.Context(), "", nil)
	if err != nil {
		t.Fatal(err)
	}
	return shelf{T: t, Store: c.Content(), ctx: lease.With(t.Context(), l.ID)}
}

func (s shelf) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s shelf) put(mediaType string, p []byte) ocispec.Descriptor {
	s.Helper()
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(p), Size: int64(len(p))}
	w, err := s.Writer(s.ctx, content.WriterOptions{Ref: d.Digest.String(), Desc: d})
	if errdefs.IsAlreadyExists(err) {
		return d
	}
	s.must(err)
	_, err = w.Write(p)
	s.must(err)
	s.must(w.Commit(s.ctx, d.Size, d.Digest, nil))
	return d
}

func (s shelf) putJSON(mediaType string, v any) ocispec.Descriptor {
	s.Helper()
	p, err := json.Marshal(v)
	s.must(err)
	return s.put(mediaType, p)
}

// image makes an image of one layer for a platform.
func (s shelf) image(arch, layer string) ocispec.Descriptor {
	s.Helper()
	plain := tarOf(s.T, "file", layer)
	p := ocispec.Platform{OS: "linux", Architecture: arch}
	config := s.putJSON(ocispec.MediaTypeImageConfig, ocispec.Image{
		Platform: p, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(plain)}}})
	d := s.putJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config,
		Layers: []ocispec.Descriptor{s.put(ocispec.MediaTypeImageLayerGzip, gz(s.T, plain))}})
	d.Platform = &p
	return d
}

func (s shelf) index(manifests ...ocispec.Descriptor) ocispec.Descriptor {
	s.Helper()
	return s.putJSON(ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests})
}

func (s shelf) readIndex(d ocispec.Descriptor) (index ocispec.Index) {
	s.Helper()
	p, err := manifest.Read(s.ctx, s.Store, d)
	s.must(err)
	s.must(json.Unmarshal(p, &index))
	return index
}

// files reads a tar.
func files(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	out := map[string]string{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		p, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag == tar.TypeReg {
			out[h.Name] = string(p)
		}
	}
}

// tarOf makes a tar of names and contents; "->" before a content makes it a link.
func tarOf(t *testing.T, pairs ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for i := 0; i < len(pairs); i += 2 {
		h := &tar.Header{Name: pairs[i], Mode: 0o644, Size: int64(len(pairs[i+1])), ModTime: time.Unix(0, 0)}
		if to, ok := strings.CutPrefix(pairs[i+1], "->"); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, to, 0
		}
		if err := tw.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			_, _ = io.WriteString(tw, pairs[i+1])
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func gz(t *testing.T, p []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, err := z.Write(p)
	if err := errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func blob(d digest.Digest) string { return "blobs/sha256/" + d.Encoded() }

// TestImportDocker reads what docker save has written since its beginnings: layers in
// directories, some of them links to others, packed or not, in a tar packed as a whole.
func TestImportDocker(t *testing.T) {
	s := newShelf(t)
	one, two := tarOf(t, "a", "1"), gz(t, tarOf(t, "b", "2"))
	config := `{"architecture":"arm64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`
	plain := tarOf(t, "c.json", config, "x/VERSION", "1.0", "x/layer.tar", string(one), "y/layer.tar", string(two),
		"z/layer.tar", "->../x/layer.tar", "repositories", "{}",
		"manifest.json", `[{"Config":"c.json","RepoTags":["a:1","reg.io/b"],"Layers":["x/layer.tar","y/layer.tar","z/layer.tar"]},
			{"Config":"c.json","Layers":[]}]`)
	z, err := zstd.NewWriter(nil)
	s.must(err)
	desc, err := archive.Import(s.ctx, s.Store, bytes.NewReader(z.EncodeAll(plain, nil)), archive.ImportOptions{})
	s.must(err)
	if desc.MediaType != ocispec.MediaTypeImageIndex {
		t.Errorf("the index is %+v", desc)
	}
	index := s.readIndex(desc)
	if len(index.Manifests) != 3 {
		t.Fatalf("index %+v", index)
	}
	for i, want := range []map[string]string{
		{"io.containerd.image.name": "docker.io/library/a:1", "org.opencontainers.image.ref.name": "1"},
		{"io.containerd.image.name": "reg.io/b:latest", "org.opencontainers.image.ref.name": "latest"}, nil} {
		m := index.Manifests[i]
		if !maps.Equal(m.Annotations, want) || m.MediaType != manifest.DockerManifest || m.Platform == nil || m.Platform.Architecture != "arm64" {
			t.Errorf("entry %d is %+v", i, m)
		}
	}
	children, err := manifest.ReadChildren(s.ctx, s.Store, index.Manifests[0])
	s.must(err)
	const mt = "application/vnd.docker.image.rootfs.diff.tar"
	if len(children) != 4 || children[1].MediaType != mt || children[2].MediaType != mt+".gzip" || children[3].Digest != digest.FromBytes(one) {
		t.Errorf("children %+v", children)
	}

	desc, err = archive.Import(s.ctx, s.Store, bytes.NewReader(plain), archive.ImportOptions{Compress: true})
	s.must(err)
	children, err = manifest.ReadChildren(s.ctx, s.Store, s.readIndex(desc).Manifests[0])
	s.must(err)
	info, err := s.Info(s.ctx, children[1].Digest)
	s.must(err)
	if children[1].MediaType != mt+".gzip" || info.Size != children[1].Size || info.Labels["containerd.io/uncompressed"] != digest.FromBytes(one).String() {
		t.Errorf("a packed layer is %+v, %+v", children[1], info)
	}
}

// TestImportLayout has images of which only one platform is there.
func TestImportLayout(t *testing.T) {
	here, there := newShelf(t), newShelf(t)
	amd, arm := here.image("amd64", "x"), here.image("arm64", "y")
	index := here.index(amd, arm)
	var b bytes.Buffer
	here.must(archive.Export(here.ctx, here.Store, &b, archive.ExportOptions{
		Images:   []image.Image{{Name: "docker.io/library/both:v", Target: index}, {Name: "q.io/arm@" + arm.Digest.String(), Target: arm}, {Target: amd}},
		Platform: platforms.OnlyStrict(*amd.Platform),
	}))
	have := files(t, bytes.NewReader(b.Bytes()))
	desc, err := archive.Import(there.ctx, there.Store, bytes.NewReader(b.Bytes()), archive.ImportOptions{})
	there.must(err)
	if string(desc.Digest) != digest.FromString(have["index.json"]).String() || desc.Size != int64(len(have["index.json"])) {
		t.Errorf("the index is %+v", desc)
	}
	got := there.readIndex(desc).Manifests
	if len(got) != 3 || got[0].Digest != index.Digest || got[0].Annotations[archive.AnnotationName] != "docker.io/library/both:v" ||
		got[0].Annotations[ocispec.AnnotationRefName] != "v" || got[1].Annotations[ocispec.AnnotationRefName] != "q.io/arm@"+arm.Digest.String() ||
		got[2].Annotations != nil {
		t.Errorf("entries %+v", got)
	}
	for _, d := range []digest.Digest{index.Digest, amd.Digest, arm.Digest} {
		if _, err := there.Info(there.ctx, d); err != nil {
			t.Error(err)
		}
	}
	var entries []struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	here.must(json.Unmarshal([]byte(have["manifest.json"]), &entries))
	if len(entries) != 2 || !slices.Equal(entries[0].RepoTags, []string{"both:v"}) || len(entries[1].RepoTags) != 0 || have[entries[0].Config] == "" || have[entries[0].Layers[0]] == "" {
		t.Errorf("manifest.json %s", have["manifest.json"])
	}
}

func TestExportChooses(t *testing.T) {
	s := newShelf(t)
	amd, arm := s.image("amd64", "x"), s.image("arm64", "y")
	foreign := s.put("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", []byte("z"))
	config := s.putJSON(ocispec.MediaTypeImageConfig, ocispec.Image{})
	base := s.putJSON(ocispec.MediaTypeImageManifest, ocispec.Manifest{Config: config, Layers: []ocispec.Descriptor{foreign}})
	absent := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("absent"), Size: 6,
		Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}}
	index, lacking := s.index(amd, arm), s.index(amd, absent)
	only := platforms.OnlyStrict(*amd.Platform)
	for name, c := range map[string]struct {
		target ocispec.Descriptor
		o      archive.ExportOptions
		with   []digest.Digest
		gone   []digest.Digest
		class  error
	}{
		"one platform":          {target: index, o: archive.ExportOptions{Platform: only}, with: []digest.Digest{index.Digest, amd.Digest}, gone: []digest.Digest{arm.Digest}},
		"all platforms":         {target: index, o: archive.ExportOptions{Platform: only, AllPlatforms: true}, with: []digest.Digest{amd.Digest, arm.Digest}},
		"no choice":             {target: index, with: []digest.Digest{amd.Digest, arm.Digest}},
		"no such platform":      {target: index, o: archive.ExportOptions{Platform: platforms.OnlyStrict(*absent.Platform)}, class: errdefs.ErrNotFound},
		"missing":               {target: lacking, o: archive.ExportOptions{Platform: only, AllPlatforms: true}, class: errdefs.ErrNotFound},
		"missing, not wanted":   {target: lacking, o: archive.ExportOptions{Platform: only}, with: []digest.Digest{amd.Digest}},
		"missing, passed over":  {target: lacking, o: archive.ExportOptions{Platform: only, AllPlatforms: true, SkipMissing: true}, with: []digest.Digest{amd.Digest}, gone: []digest.Digest{absent.Digest}},
		"foreign layers":        {target: base, with: []digest.Digest{foreign.Digest}},
		"without foreign ones":  {target: base, o: archive.ExportOptions{SkipNonDistributable: true}, with: []digest.Digest{config.Digest}, gone: []digest.Digest{foreign.Digest}},
		"what is no manifest":   {target: config, class: errdefs.ErrInvalidArgument},
		"what is not there":     {target: absent, class: errdefs.ErrNotFound},
		"without manifest.json": {target: amd, o: archive.ExportOptions{SkipDockerManifest: true}, with: []digest.Digest{amd.Digest}},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			c.o.Images = []image.Image{{Name: "x.io/y:z", Target: c.target}}
			err := archive.Export(s.ctx, s.Store, &b, c.o)
			if c.class != nil {
				if !errors.Is(err, c.class) {
					t.Errorf("%v, want class %v", err, c.class)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			have := files(t, &b)
			for _, d := range c.with {
				if _, ok := have[blob(d)]; !ok {
					t.Errorf("there is no %s", d)
				}
			}
			for _, d := range c.gone {
				if _, ok := have[blob(d)]; ok {
					t.Errorf("there is %s", d)
				}
			}
			if _, ok := have["manifest.json"]; ok == c.o.SkipDockerManifest {
				t.Errorf("manifest.json: %v", ok)
			}
		})
	}
}

// lying yields another blob's bytes.
type lying struct{ content.Store }

func (l lying) ReaderAt(ctx context.Context, d ocispec.Descriptor) (content.ReaderAt, error) {
	r, err := l.Store.ReaderAt(ctx, d)
	if !strings.Contains(d.MediaType, "layer") {
		return r, err
	}
	return other{r}, err
}

type other struct{ content.ReaderAt }

func (o other) ReadAt(p []byte, off int64) (int, error) {
	n, err := o.ReaderAt.ReadAt(p, off)
	if n > 0 {
		p[0] ^= 1
	}
	return n, err
}

func TestExportChecksBlobs(t *testing.T) {
	s := newShelf(t)
	err := archive.Export(s.ctx, lying{s.Store}, io.Discard, archive.ExportOptions{Images: []image.Image{{Name: "a", Target: s.image("amd64", "x")}}})
	if !errors.Is(err, errdefs.ErrDataLoss) {
		t.Errorf("a blob with another content: %v", err)
	}
}

func TestImportRefuses(t *testing.T) {
	s := newShelf(t)
	const layout = `{"imageLayoutVersion":"1.0.0"}`
	for name, p := range map[string][]byte{
		"no archive":           tarOf(t, "a", "b"),
		"no tar":               []byte("x"),
		"a later layout":       tarOf(t, "oci-layout", `{"imageLayoutVersion":"2.0.0"}`, "index.json", `{}`),
		"no index":             tarOf(t, "oci-layout", layout),
		"another's digest":     tarOf(t, "oci-layout", layout, "index.json", `{}`, blob(digest.FromString("x")), "y"),
		"no digest":            tarOf(t, "oci-layout", layout, "index.json", `{"manifests":[{"digest":"../x"}]}`),
		"a layer left out":     tarOf(t, "c", "{}", "manifest.json", `[{"Config":"c","Layers":["l"]}]`),
		"links in a circle":    tarOf(t, "c", "{}", "l", "->m", "m", "->l", "manifest.json", `[{"Config":"c","Layers":["l"]}]`),
		"a name that is not":   tarOf(t, "c", "{}", "manifest.json", `[{"Config":"c","RepoTags":["A:B:C"]}]`),
		"a config that is not": tarOf(t, "c", "[", "manifest.json", `[{"Config":"c","RepoTags":["a"]}]`),
	} {
		t.Run(name, func(t *testing.T) {
			if d, err := archive.Import(s.ctx, s.Store, bytes.NewReader(p), archive.ImportOptions{}); err == nil {
				t.Errorf("imported as %+v", d)
			}
			if left, err := s.ListStatuses(s.ctx); err != nil || len(left) > 0 {
				t.Errorf("ingests left: %+v, %v", left, err)
			}
		})
	}
}

// TestWithCtr exchanges archives with containerd.
func TestWithCtr(t *testing.T) {
	ctr := need.Command(t, "ctr")
	s := newShelf(t)
	address := coretest.ServeContainerd(t)
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.CommandContext(t.Context(), ctr, append([]string{"-a", address, "-n", "default"}, args...)...).CombinedOutput()
		if err != nil {
			t.Fatalf("ctr %v: %v: %s", args, err, out)
		}
		return string(out)
	}
	host := platforms.DefaultSpec()
	file := filepath.Join(t.TempDir(), "ours.tar")
	f, err := os.Create(file)
	s.must(err)
	target := s.index(s.image(host.Architecture, "x"), s.image("s390x", "y"))
	s.must(archive.Export(s.ctx, s.Store, f, archive.ExportOptions{
		Images:   []image.Image{{Name: "docker.io/library/ours:v1", Target: target}, {Name: "docker.io/library/ours:v2", Target: target}},
		Platform: platforms.Default(),
	}))
	s.must(f.Close())
	run("images", "import", file)
	if list := run("images", "list", "-q"); list != "docker.io/library/ours:v1\ndocker.io/library/ours:v2\n" {
		t.Errorf("ctr has %q", list)
	}
	theirs := filepath.Join(t.TempDir(), "theirs.tar")
	run("images", "export", theirs, "docker.io/library/ours:v1", "docker.io/library/ours:v2")
	back := newShelf(t)
	g, err := os.Open(theirs)
	s.must(err)
	defer g.Close()
	desc, err := archive.Import(back.ctx, back.Store, g, archive.ImportOptions{})
	s.must(err)
	got := back.readIndex(desc).Manifests
	if len(got) != 2 || got[0].Digest != target.Digest || got[1].Annotations[archive.AnnotationName] != "docker.io/library/ours:v2" {
		t.Errorf("from ctr: %+v", got)
	}
}
