package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/ulikunitz/xz"

	"gantry/api/errdefs"
	apiimage "gantry/api/image"
	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/coretest"
	"gantry/internal/testutil/need"
)

func save(t testing.TB, f *fixture, names ...string) []byte {
	t.Helper()
	var out bytes.Buffer
	check(t, f.Save(t.Context(), names, nil, &out))
	return out.Bytes()
}

// entries maps the names of a tar to their content.
func entries(t testing.TB, p []byte) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for tr := tar.NewReader(bytes.NewReader(p)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return out
		}
		check(t, err)
		if out[h.Name], err = io.ReadAll(tr); err != nil {
			t.Fatal(err)
		}
	}
}

func TestSaveLoadRoundTrip(t *testing.T) {
	f := newFixture(t, coretest.Start(t))
	load(t, f, busybox.Archive(t, busybox.Config{}, "one:v1", "one:v2", "two:latest"))
	img, err := f.Resolve(t.Context(), "one:v1", nil)
	check(t, err)

	first := save(t, f, "one", "two")
	if !bytes.Equal(first, save(t, f, "one", "two")) {
		t.Error("two saves differ")
	}
	var index ocispec.Index
	files := entries(t, first)
	check(t, json.Unmarshal(files["index.json"], &index))
	if len(index.Manifests) != 3 || index.Manifests[0].Annotations["io.containerd.image.name"] != "docker.io/library/one:v1" ||
		index.Manifests[0].Annotations[ocispec.AnnotationRefName] != "v1" {
		t.Errorf("index.json: %s", files["index.json"])
	}
	var docker []struct{ RepoTags, Layers []string }
	check(t, json.Unmarshal(files["manifest.json"], &docker))
	if len(docker) != 1 || strings.Join(docker[0].RepoTags, " ") != "one:v1 one:v2 two:latest" || len(docker[0].Layers) != 1 {
		t.Errorf("manifest.json: %s", files["manifest.json"])
	}

	_, err = f.Remove(t.Context(), img.ID.String(), imagetypes.RemoveOptions{Force: true})
	check(t, err)
	if got := load(t, f, first); got != "Loaded image: one:v1\nLoaded image: one:v2\nLoaded image: two:latest\n" {
		t.Errorf("load printed %q", got)
	}
	again, err := f.Resolve(t.Context(), "two", nil)
	check(t, err)
	if again.ID != img.ID {
		t.Errorf("id %s became %s", img.ID, again.ID)
	}
	check(t, f.Prepare(t.Context(), again, "c", nil))
	check(t, f.RemoveSnapshot(t.Context(), "c"))

	byID := entries(t, save(t, f, img.ID.Encoded()[:12]))
	index = ocispec.Index{}
	check(t, json.Unmarshal(byID["index.json"], &index))
	if len(index.Manifests) != 1 || len(index.Manifests[0].Annotations) != 0 {
		t.Errorf("index.json of an id: %s", byID["index.json"])
	}
}

// TestSaveForSkopeo lets another tool read what we have saved. It takes only OCI media
// types from an OCI layout, so that image is an imported one.
func TestSaveForSkopeo(t *testing.T) {
	program := need.Command(t, "skopeo")
	f := newFixture(t, coretest.Start(t))
	load(t, f, busybox.Archive(t, busybox.Config{}, "docker:v1"))
	var out stream
	check(t, f.Import(t.Context(), apiimage.ImportOptions{Source: "-", Body: bytes.NewReader(busybox.Layer(t)), Ref: "oci:v2"}, out.add))
	path := filepath.Join(t.TempDir(), "saved.tar")
	check(t, os.WriteFile(path, save(t, f, "docker:v1", "oci:v2"), 0o600))
	for _, ref := range []string{"oci-archive:" + path + ":v2", "docker-archive:" + path + ":docker:v1", "docker-archive:" + path + ":oci:v2"} {
		if said, err := exec.Command(program, "inspect", "--config", ref).CombinedOutput(); err != nil {
			t.Errorf("skopeo inspect %s: %v: %s", ref, err, said)
		}
	}
}

func TestSaveErrors(t *testing.T) {
	f := newFixture(t, coretest.Start(t))
	load(t, f, busybox.Archive(t, busybox.Config{}, "one:v1"))
	for _, c := range []struct {
		names []string
		text  string
	}{
		{[]string{"nope"}, "No such image: nope:latest"},
		{[]string{"one", "nope:v1"}, "No such image: nope:v1"},
		{[]string{"one:v9"}, "No such image: one:v9"},
		{[]string{digest.FromString("x").String()}, "No such image: " + digest.FromString("x").String()},
	} {
		var out bytes.Buffer
		err := f.Save(t.Context(), c.names, nil, &out)
		if !errdefs.IsNotFound(err) || err.Error() != c.text || out.Len() != 0 {
			t.Errorf("save %v: %v, %d bytes", c.names, err, out.Len())
		}
	}
	var out bytes.Buffer
	err := f.Save(t.Context(), []string{"one:v1"}, &ocispec.Platform{OS: "linux", Architecture: "s390x"}, &out)
	if !errdefs.IsNotFound(err) || out.Len() != 0 {
		t.Errorf("save of another platform: %v", err)
	}
}

func TestLoadPacked(t *testing.T) {
	f := newFixture(t, coretest.Start(t))
	plain := busybox.Archive(t, busybox.Config{}, "packed:latest")
	pack := func(open func(io.Writer) (io.WriteCloser, error)) []byte {
		var b bytes.Buffer
		w, err := open(&b)
		check(t, err)
		_, err = w.Write(plain)
		check(t, err)
		check(t, w.Close())
		return b.Bytes()
	}
	for _, c := range []struct {
		how string
		p   []byte
	}{
		{"gzip", pack(func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriterLevel(w, 1) })},
		{"zstd", pack(func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w) })},
		{"xz", pack(func(w io.Writer) (io.WriteCloser, error) { return xz.NewWriter(w) })},
	} {
		if got := load(t, f, c.p); got != "Loaded image: packed:latest\n" {
			t.Errorf("%s: %q", c.how, got)
		}
	}
}

// TestLoadSkopeo takes what another tool writes: an OCI layout whose index has no full
// name, and Docker's archive.
func TestLoadSkopeo(t *testing.T) {
	program := need.Command(t, "skopeo")
	f := newFixture(t, coretest.Start(t))
	dir := t.TempDir()
	in := filepath.Join(dir, "in.tar")
	check(t, os.WriteFile(in, busybox.Archive(t, busybox.Config{}, "src:v1"), 0o600))
	for _, c := range []struct{ to, ref, want string }{
		{"oci-archive", ":copied:v2", "Loaded image: copied:v2\n"},
		{"docker-archive", ":copied:v3", "Loaded image: copied:v3\n"},
		{"oci-archive", "", "Loaded image ID: sha256:"},
	} {
		out := filepath.Join(dir, c.to+".tar")
		_ = os.Remove(out)
		cmd := exec.Command(program, "--insecure-policy", "copy", "docker-archive:"+in+":src:v1", c.to+":"+out+c.ref)
		if said, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, said)
		}
		p, err := os.ReadFile(out)
		check(t, err)
		if got := load(t, f, p); !strings.HasPrefix(got, c.want) {
			t.Errorf("load of %s%s printed %q", c.to, c.ref, got)
		}
	}
}

type entry struct {
	h    tar.Header
	body string
}

func file(name, body string) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(body))}, body}
}

func build(t testing.TB, es ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	tw := tar.NewWriter(&b)
	for _, e := range es {
		check(t, tw.WriteHeader(&e.h))
		_, err := io.WriteString(tw, e.body)
		check(t, err)
	}
	check(t, tw.Close())
	return b.Bytes()
}

func TestLoadHostile(t *testing.T) {
	f := newFixture(t, coretest.Start(t))
	layout := file("oci-layout", `{"imageLayoutVersion":"1.0.0"}`)
	config := `{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}`
	wrong := digest.FromString("wrong").Encoded()
	link := func(kind byte, name, to string) entry {
		return entry{tar.Header{Typeflag: kind, Name: name, Linkname: to}, ""}
	}
	for _, c := range []struct {
		why  string
		p    []byte
		want string // part of the error
	}{
		{"nothing", nil, "unrecognized image format"},
		{"no tar", []byte(strings.Repeat("x", 4096)), "invalid tar header"},
		{"cut short", busybox.Archive(t, busybox.Config{}, "a:b")[:5000], "unexpected EOF"},
		{"no manifest", build(t, file("hello", "world")), "unrecognized image format"},
		{"content that is not its digest", build(t, layout, file("index.json", "{}"), file("blobs/sha256/"+wrong, "x")), "blobs/sha256/" + wrong},
		{"other layout", build(t, file("oci-layout", `{"imageLayoutVersion":"9"}`), file("index.json", "{}")), `unsupported OCI layout version "9"`},
		{"layout without index", build(t, layout), "read index.json"},
		{"digest that is none", build(t, layout, file("index.json", `{"manifests":[{"digest":"sha256:../../etc","size":1}]}`)), `digest "sha256:../../etc"`},
		{"manifest that is not there", build(t, layout, file("index.json", fmt.Sprintf(`{"manifests":[{"mediaType":%q,"digest":"sha256:%s","size":1}]}`, ocispec.MediaTypeImageManifest, wrong))), "not found"},
		{"target of another kind", build(t, layout, file("blobs/sha256/"+digest.FromString("x").Encoded(), "x"),
			file("index.json", fmt.Sprintf(`{"manifests":[{"mediaType":"text/plain","digest":%q,"size":1}]}`, digest.FromString("x")))), "neither a manifest nor an index"},
		{"config outside", build(t, file("manifest.json", `[{"Config":"../../../etc/passwd","Layers":[]}]`)), `config "../../../etc/passwd" is not in the archive`},
		{"config by a link outside", build(t, link(tar.TypeSymlink, "c.json", "/etc/passwd"), file("manifest.json", `[{"Config":"c.json","Layers":[]}]`)), `config "c.json" is not in the archive`},
		{"links in a circle", build(t, link(tar.TypeSymlink, "a", "b"), link(tar.TypeLink, "b", "a"), file("manifest.json", `[{"Config":"a","Layers":[]}]`)), `config "a" is not in the archive`},
		{"layer missing", build(t, file("c.json", config), file("manifest.json", `[{"Config":"c.json","Layers":["l.tar"]}]`)), `layer "l.tar" is not in the archive`},
		{"manifest.json of another shape", build(t, file("manifest.json", `{"a":1}`)), "read manifest.json"},
		{"long name", build(t, file(strings.Repeat("a/", 4000)+"a", "")), "name longer than"},
		{"index that is too long", build(t, layout, file("index.json", strings.Repeat(" ", 9<<20))), "at most"},
	} {
		var out stream
		err := f.Load(t.Context(), bytes.NewReader(c.p), nil, false, out.add)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.why, err, c.want)
		}
		if out.text() != "" {
			t.Errorf("%s: printed %s", c.why, out.text())
		}
	}
	imgs, err := f.core.Images().List(t.Context())
	if err != nil || len(imgs) != 0 {
		t.Errorf("images left: %v, %v", imgs, err)
	}
	leases, err := f.core.Leases().List(t.Context())
	if err != nil || len(leases) != 0 {
		t.Errorf("leases left: %v, %v", leases, err)
	}
}

// TestLoadLegacy reads the layout of Docker before 25: directories by layer, and links
// between them.
func TestLoadLegacy(t *testing.T) {
	f := newFixture(t, coretest.Start(t))
	l := string(build(t, file("hello", "world")))
	diff := digest.FromString(l)
	config := fmt.Sprintf(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[%q,%q]}}`, diff, diff)
	p := build(t,
		file("aaa/VERSION", "1.0"), file("aaa/layer.tar", l),
		entry{tar.Header{Typeflag: tar.TypeSymlink, Name: "bbb/layer.tar", Linkname: "../aaa/layer.tar"}, ""},
		file("c.json", config), file("repositories", "{}"),
		file("manifest.json", `[{"Config":"c.json","RepoTags":["legacy:v1"],"Layers":["aaa/layer.tar","bbb/layer.tar"]}]`))
	if got := load(t, f, p); got != "Loaded image: legacy:v1\n" {
		t.Errorf("load printed %q", got)
	}
}

// TestLoadBadLayer keeps the image and says that it can't be unpacked; a container of
// it fails then, and leaves no snapshot.
func TestLoadBadLayer(t *testing.T) {
	f := newFixture(t, coretest.Start(t))
	l := string(build(t, file("hello", "world")))
	config := fmt.Sprintf(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[%q]}}`, digest.FromString("other"))
	p := build(t, file("l.tar", l), file("c.json", config),
		file("manifest.json", `[{"Config":"c.json","RepoTags":["bad:v1"],"Layers":["l.tar"]}]`))
	if got := load(t, f, p); !strings.HasPrefix(got, "Loaded image: bad:v1\nError unpacking image bad:v1: ") {
		t.Errorf("load printed %q", got)
	}
	img, err := f.Resolve(t.Context(), "bad:v1", nil)
	check(t, err)
	if err := f.Prepare(t.Context(), img, "c", nil); err == nil {
		t.Error("prepared")
	}
	if _, err := f.Usage(t.Context(), "c"); !errdefs.IsNotFound(err) {
		t.Errorf("snapshot after a failed prepare: %v", err)
	}
}

func TestImport(t *testing.T) {
	f := newFixture(t, coretest.Start(t))
	plain := build(t, file("hello", "world"))
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	_, err := zw.Write(plain)
	check(t, err)
	check(t, zw.Close())
	for _, c := range []struct {
		why, ref string
		body     []byte
	}{{"plain", "imported:v1", plain}, {"packed", "imported:v2", packed.Bytes()}, {"without a name", "", plain}} {
		var out stream
		err := f.Import(t.Context(), apiimage.ImportOptions{Source: "-", Body: bytes.NewReader(c.body), Ref: c.ref,
			Changes: []string{"CMD [\"/hello\"]", "ENV A=1"}}, out.add)
		check(t, err)
		id := strings.TrimSpace(out.text())
		img, err := f.Resolve(t.Context(), id, nil)
		check(t, err)
		if img.Config.Config.Cmd[0] != "/hello" || img.Config.Config.Env[0] != "A=1" || img.Config.RootFS.DiffIDs[0] != digest.FromBytes(plain) {
			t.Errorf("%s: %+v", c.why, img.Config)
		}
		check(t, f.Prepare(t.Context(), img, "c", nil))
		check(t, f.RemoveSnapshot(t.Context(), "c"))
	}
	for _, c := range []struct {
		o    apiimage.ImportOptions
		text string
	}{
		{apiimage.ImportOptions{Source: "-", Body: bytes.NewReader(plain), Ref: "UPPER"}, "invalid reference format: repository name (library/UPPER) must be lowercase"},
		{apiimage.ImportOptions{Source: "-", Body: bytes.NewReader(plain), Ref: "a@" + digest.FromString("x").String()}, "cannot import digest reference"},
		{apiimage.ImportOptions{Source: "-", Body: bytes.NewReader(plain), Changes: []string{"RUN x"}}, "RUN is not a valid change command"},
	} {
		var out stream
		if err := f.Import(t.Context(), c.o, out.add); !errdefs.IsInvalidArgument(err) || err.Error() != c.text || out.text() != "" {
			t.Errorf("import: %v, want %s", err, c.text)
		}
	}
	var out stream
	if err := f.Import(t.Context(), apiimage.ImportOptions{Source: "-", Body: strings.NewReader(strings.Repeat("x", 2000)), Ref: "bad"}, out.add); err == nil {
		t.Error("imported what is no tar")
	}
	if _, err := f.Resolve(t.Context(), "bad", nil); !errdefs.IsNotFound(err) {
		t.Errorf("failed import left a name: %v", err)
	}
}
