package checkpoint

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/libctr/content"
	"gantry/libctr/core/container"
	corecontent "gantry/libctr/core/content"
)

type oneContainer struct{ spec typeurl.Any }

func (o oneContainer) Get(_ context.Context, id string) (container.Container, error) {
	if id != "c1" {
		return container.Container{}, errdefs.NotFound("container %s: not found", id)
	}
	return container.Container{ID: id, Spec: o.spec}, nil
}

func newArchive(t *testing.T) (*Archive, corecontent.Store) {
	t.Helper()
	st, err := content.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return New(st, oneContainer{&anypb.Any{TypeUrl: "spec", Value: []byte("{}")}}), st
}

func TestArchive(t *testing.T) {
	a, st := newArchive(t)
	dir, ctx := t.TempDir(), t.Context()
	files := map[string]string{"inventory.img": "i", "pages-1.img": strings.Repeat("page", 1<<18), "sub/file": ""}
	for name, text := range files {
		p := filepath.Join(dir, name)
		os.MkdirAll(filepath.Dir(p), 0o700)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	os.Symlink("/etc/passwd", filepath.Join(dir, "link"))
	blobs, err := a.Store(ctx, "c1", dir)
	if err != nil || len(blobs) != 2 || blobs[0].MediaType != mediaImages || blobs[1].MediaType != mediaConfig {
		t.Fatalf("%+v, %v", blobs, err)
	}
	again, err := a.Store(ctx, "c1", dir)
	if err != nil || again[0].Digest != blobs[0].Digest {
		t.Errorf("again: %+v, %v", again, err)
	}
	if _, err := a.Store(ctx, "c2", dir); !errdefs.IsNotFound(err) {
		t.Errorf("of no container: %v", err)
	}
	if left, err := st.ListStatuses(ctx); err != nil || len(left) > 0 {
		t.Errorf("ingests left: %v, %v", left, err)
	}
	r, err := st.ReaderAt(ctx, blobs[1])
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	raw, spec := make([]byte, r.Size()), &anypb.Any{}
	r.ReadAt(raw, 0)
	if err := proto.Unmarshal(raw, spec); err != nil || spec.TypeUrl != "spec" || string(spec.Value) != "{}" {
		t.Errorf("spec: %v, %v", spec, err)
	}
	to := t.TempDir()
	if err := a.Load(ctx, blobs[0], to); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		if b, err := os.ReadFile(filepath.Join(to, name)); err != nil || string(b) != text {
			t.Errorf("%s: %d bytes, %v", name, len(b), err)
		}
	}
	if _, err := os.Lstat(filepath.Join(to, "link")); err == nil {
		t.Error("a link was kept")
	}
	if err := a.Load(ctx, blobs[1], t.TempDir()); !errdefs.IsInvalidArgument(err) {
		t.Errorf("load of a spec: %v", err)
	}
}

// TestHostile: no blob writes outside of the directory, nor over what is there.
func TestHostile(t *testing.T) {
	a, st := newArchive(t)
	for name, headers := range map[string][]tar.Header{
		"up":       {{Name: "../out", Typeflag: tar.TypeReg}},
		"absolute": {{Name: "/out", Typeflag: tar.TypeReg}},
		"link":     {{Name: "l", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "l/out", Typeflag: tar.TypeReg}},
		"hard":     {{Name: "l", Typeflag: tar.TypeLink, Linkname: "/etc/passwd"}},
		"device":   {{Name: "d", Typeflag: tar.TypeChar}},
		"twice":    {{Name: "f", Typeflag: tar.TypeReg}, {Name: "f", Typeflag: tar.TypeReg}},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := tar.NewWriter(&b)
			for i := range headers {
				if err := w.WriteHeader(&headers[i]); err != nil {
					t.Fatal(err)
				}
			}
			w.Close()
			d := ocispec.Descriptor{MediaType: mediaImages, Digest: digest.FromBytes(b.Bytes()), Size: int64(b.Len())}
			blob, err := st.Writer(t.Context(), corecontent.WriterOptions{Ref: name})
			if err != nil {
				t.Fatal(err)
			}
			blob.Write(b.Bytes())
			if err := blob.Commit(t.Context(), d.Size, d.Digest, nil); err != nil {
				t.Fatal(err)
			}
			top := t.TempDir()
			dir := filepath.Join(top, "in")
			os.Mkdir(dir, 0o700)
			if err := a.Load(t.Context(), d, dir); err == nil {
				t.Error("was taken")
			}
			if left, _ := os.ReadDir(top); len(left) != 1 {
				t.Errorf("written outside: %v", left)
			}
		})
	}
}
