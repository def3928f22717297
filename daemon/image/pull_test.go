package image_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	apiimage "gantry/api/image"
	"gantry/internal/testutil/coretest"
	"gantry/internal/testutil/registrytest"
)

// layer makes a gzipped tar with one file of random content, and its diff id.
func layer(t testing.TB, name string, size int) ([]byte, digest.Digest) {
	t.Helper()
	var plain, packed bytes.Buffer
	tw := tar.NewWriter(&plain)
	check(t, tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(size)}))
	_, err := io.CopyN(tw, rand.NewChaCha8([32]byte{byte(len(name)), byte(size)}), int64(size))
	check(t, err)
	check(t, tw.Close())
	zw := gzip.NewWriter(&packed)
	_, err = zw.Write(plain.Bytes())
	check(t, err)
	check(t, zw.Close())
	return packed.Bytes(), digest.FromBytes(plain.Bytes())
}

// sample is an image of n layers.
func sample(t testing.TB, arch string, n, size int) registrytest.Image {
	img := registrytest.Image{Architecture: arch, Config: map[string]any{"Labels": map[string]string{"arch": arch}}}
	for i := range n {
		p, diff := layer(t, fmt.Sprintf("%s-%d", arch, i), size+i)
		img.Layers, img.DiffIDs = append(img.Layers, p), append(img.DiffIDs, diff)
	}
	return img
}

func pull(t testing.TB, f *fixture, o apiimage.PullOptions) (string, error) {
	t.Helper()
	var out stream
	err := f.Pull(t.Context(), o, out.add)
	return out.text(), err
}

func short(d digest.Digest) string { return d.Encoded()[:12] }

func TestPull(t *testing.T) {
	reg := registrytest.Start(t)
	here, other := sample(t, runtime.GOARCH, 3, 4000), sample(t, "s390x", 1, 100)
	hereDesc, otherDesc := reg.Push("multi", "", here), reg.Push("multi", "", other)
	attestation := reg.Push("multi", "", registrytest.Image{Architecture: "unknown"})
	attestation.Platform = &ocispec.Platform{OS: "unknown", Architecture: "unknown"}
	index := reg.Index("multi", "v1", otherDesc, attestation, hereDesc)
	ref := reg.Host + "/multi:v1"

	cores(t, func(t *testing.T, f *fixture) {
		text, err := pull(t, f, apiimage.PullOptions{Ref: ref})
		check(t, err)
		wantInOrder(t, text, "v1: Pulling from multi\n", "Digest: "+index.Digest.String()+"\n", "Status: Downloaded newer image for "+ref+"\n")
		for _, p := range here.Layers {
			id := short(digest.FromBytes(p))
			wantInOrder(t, text, id+": Pulling fs layer\n", id+": Download complete\n", id+": Pull complete\n")
		}
		img, err := f.Resolve(t.Context(), ref, nil)
		check(t, err)
		if img.ID != index.Digest || img.Manifest.Digest != hereDesc.Digest {
			t.Errorf("resolved id %s, manifest %s", img.ID, img.Manifest.Digest)
		}
		if _, err := f.core.Snapshotter("overlayfs").Stat(t.Context(), img.ChainID.String()); err != nil {
			t.Errorf("snapshot: %v", err)
		}
		_, err = f.Resolve(t.Context(), ref, &ocispec.Platform{OS: "linux", Architecture: "s390x"})
		if !errdefs.IsNotFound(err) || !strings.HasSuffix(err.Error(), "was found but does not provide the specified platform (linux/s390x)") {
			t.Errorf("platform that was not pulled: %v", err)
		}

		text, err = pull(t, f, apiimage.PullOptions{Ref: ref})
		check(t, err)
		want := "v1: Pulling from multi\nDigest: " + index.Digest.String() + "\nStatus: Image is up to date for " + ref + "\n"
		if text != want {
			t.Errorf("second pull printed\n%s", text)
		}

		_, err = pull(t, f, apiimage.PullOptions{Ref: ref, Platform: &ocispec.Platform{OS: "linux", Architecture: "s390x"}})
		check(t, err)
		if img, err = f.Resolve(t.Context(), ref, &ocispec.Platform{OS: "linux", Architecture: "s390x"}); err != nil || img.Manifest.Digest != otherDesc.Digest {
			t.Errorf("other platform: %v, %v", img, err)
		}
		gone, err := f.Remove(t.Context(), img.ID.Encoded()[:12], imagetypes.RemoveOptions{})
		check(t, err)
		if len(gone) != 2 {
			t.Errorf("removal answered %v", gone)
		}
		leases, err := f.core.Leases().List(t.Context())
		if err != nil || len(leases) != 0 {
			t.Errorf("leases left: %v, %v", leases, err)
		}
	})
}

func wantInOrder(t testing.TB, text string, parts ...string) {
	t.Helper()
	rest := text
	for _, p := range parts {
		_, after, ok := strings.Cut(rest, p)
		if !ok {
			t.Fatalf("no %q in its place in\n%s", p, text)
		}
		rest = after
	}
}

func TestPullErrors(t *testing.T) {
	reg := registrytest.Start(t)
	reg.Index("multi", "other", reg.Push("multi", "", sample(t, "s390x", 1, 10)))
	closed := "127.0.0.1:1"
	f := newFixture(t, coretest.Start(t))
	for _, c := range []struct {
		why   string
		o     apiimage.PullOptions
		class func(error) bool
		text  string
	}{
		{"nonsense", apiimage.PullOptions{Ref: "not a name"}, errdefs.IsInvalidArgument, "invalid reference format"},
		{"upper case", apiimage.PullOptions{Ref: "Busybox"}, errdefs.IsInvalidArgument, "invalid reference format: repository name (library/Busybox) must be lowercase"},
		{"scratch", apiimage.PullOptions{Ref: "scratch"}, func(err error) bool { return errors.Is(err, errdefs.ErrPermissionDenied) }, "'scratch' is a reserved name"},
		{"no such tag", apiimage.PullOptions{Ref: reg.Host + "/multi:nope"}, errdefs.IsNotFound,
			fmt.Sprintf("failed to resolve reference %q: %s: not found", reg.Host+"/multi:nope", reg.Host+"/multi:nope")},
		{"no such repository", apiimage.PullOptions{Ref: reg.Host + "/nope"}, errdefs.IsNotFound,
			fmt.Sprintf("failed to resolve reference %q: %s: not found", reg.Host+"/nope:latest", reg.Host+"/nope:latest")},
		{"no such platform", apiimage.PullOptions{Ref: reg.Host + "/multi:other", Platform: &ocispec.Platform{OS: "linux", Architecture: "arm64", Variant: "v8"}}, errdefs.IsNotFound,
			"no matching manifest for linux/arm64/v8 in the manifest list entries: no match for platform in manifest: not found"},
		{"no registry there", apiimage.PullOptions{Ref: closed + "/x"}, func(err error) bool { return errdefs.Class(err) == nil },
			`failed to resolve reference "127.0.0.1:1/x:latest": failed to do request: Head "http://127.0.0.1:1/v2/x/manifests/latest": dial tcp 127.0.0.1:1: connect: connection refused`},
	} {
		text, err := pull(t, f, c.o)
		if err == nil || err.Error() != c.text || !c.class(err) {
			t.Errorf("%s: %v (class %v), want %q", c.why, err, errdefs.Class(err), c.text)
		}
		if strings.Contains(text, "Digest") {
			t.Errorf("%s: printed %s", c.why, text)
		}
	}
	imgs, err := f.core.Images().List(t.Context())
	if err != nil || len(imgs) != 0 {
		t.Errorf("images left: %v, %v", imgs, err)
	}
}

func TestPullWithCredentials(t *testing.T) {
	reg := registrytest.StartPrivate(t)
	reg.Push("private", "latest", sample(t, runtime.GOARCH, 1, 10))
	ref := reg.Host + "/private"
	f := newFixture(t, coretest.Start(t))
	_, err := pull(t, f, apiimage.PullOptions{Ref: ref})
	if err == nil || !strings.HasSuffix(err.Error(), "pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials") {
		t.Errorf("without credentials: %v", err)
	}
	_, err = pull(t, f, apiimage.PullOptions{Ref: ref, Auth: &registry.AuthConfig{Username: registrytest.User, Password: "wrong"}})
	want := "pull access denied for " + ref + ", repository does not exist or may require 'docker login'"
	if !errdefs.IsNotFound(err) || err.Error() != want {
		t.Errorf("with wrong ones: %v", err)
	}
	_, err = pull(t, f, apiimage.PullOptions{Ref: ref, Auth: &registry.AuthConfig{Username: registrytest.User, Password: registrytest.Password}})
	check(t, err)
}

// front stands before a registry and may spoil its answers.
func front(t testing.TB, reg *registrytest.Registry, spoil func(http.ResponseWriter, *http.Request) bool) string {
	t.Helper()
	target, err := url.Parse("http://" + reg.Host)
	check(t, err)
	proxy := httputil.NewSingleHostReverseProxy(target)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !spoil(w, r) {
			proxy.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// TestPullResumes cuts the first answers for a layer short; the next ask is for the rest.
func TestPullResumes(t *testing.T) {
	reg := registrytest.Start(t)
	img := sample(t, runtime.GOARCH, 1, 300_000)
	reg.Push("big", "latest", img)
	blob := img.Layers[0]
	var ranges []string
	var mu sync.Mutex
	host := front(t, reg, func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/blobs/"+digest.FromBytes(blob).String()) {
			return false
		}
		mu.Lock()
		defer mu.Unlock()
		ranges = append(ranges, r.Header.Get("Range"))
		if len(ranges) > 2 {
			return false
		}
		from := 0
		if len(ranges) == 2 {
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(blob)-1, len(blob)))
			w.WriteHeader(http.StatusPartialContent)
		}
		_, _ = w.Write(blob[from : from+100_000])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	f := newFixture(t, coretest.Start(t))
	_, err := pull(t, f, apiimage.PullOptions{Ref: host + "/big"})
	check(t, err)
	if want := []string{"", "bytes=100000-", "bytes=200000-"}; strings.Join(ranges, " ") != strings.Join(want, " ") {
		t.Errorf("asked for ranges %q", ranges)
	}
}

// TestPullGivesUp on a registry that never gets well, and on content that is not what
// the manifest promises; nothing is named then.
func TestPullGivesUp(t *testing.T) {
	reg := registrytest.Start(t)
	img := sample(t, runtime.GOARCH, 1, 1000)
	reg.Push("big", "latest", img)
	for _, c := range []struct {
		why   string
		tries int32
		spoil func(http.ResponseWriter)
	}{
		{"server error", 5, func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) }},
		{"forbidden", 1, func(w http.ResponseWriter) { w.WriteHeader(http.StatusForbidden) }},
		{"other content", 5, func(w http.ResponseWriter) { _, _ = w.Write(bytes.Repeat([]byte("x"), len(img.Layers[0]))) }},
		{"too much", 5, func(w http.ResponseWriter) { _, _ = w.Write(append(bytes.Clone(img.Layers[0]), 'x')) }},
	} {
		t.Run(c.why, func(t *testing.T) {
			var asked atomic.Int32
			host := front(t, reg, func(w http.ResponseWriter, r *http.Request) bool {
				if !strings.Contains(r.URL.Path, digest.FromBytes(img.Layers[0]).String()) {
					return false
				}
				asked.Add(1)
				c.spoil(w)
				return true
			})
			f := newFixture(t, coretest.Start(t))
			if _, err := pull(t, f, apiimage.PullOptions{Ref: host + "/big"}); err == nil {
				t.Error("pulled")
			}
			if asked.Load() != c.tries {
				t.Errorf("asked %d times, want %d", asked.Load(), c.tries)
			}
			if _, err := f.Resolve(t.Context(), host+"/big", nil); !errdefs.IsNotFound(err) {
				t.Errorf("named: %v", err)
			}
		})
	}
}

// TestPullShares lets many pull the same image at once: each layer is asked for once.
func TestPullShares(t *testing.T) {
	reg := registrytest.Start(t)
	img := sample(t, runtime.GOARCH, 4, 50_000)
	reg.Push("shared", "latest", img)
	var asked sync.Map
	host := front(t, reg, func(_ http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/blobs/") {
			n, _ := asked.LoadOrStore(r.URL.Path, new(atomic.Int32))
			n.(*atomic.Int32).Add(1)
		}
		return false
	})
	f := newFixture(t, coretest.Start(t))
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			if _, err := pull(t, f, apiimage.PullOptions{Ref: host + "/shared"}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	asked.Range(func(path, n any) bool {
		if got := n.(*atomic.Int32).Load(); got != 1 {
			t.Errorf("%s was asked for %d times", path, got)
		}
		return true
	})
	if _, err := f.Resolve(t.Context(), host+"/shared", nil); err != nil {
		t.Error(err)
	}
}

// TestPullCancelled keeps what it has for the next try, which asks for the rest only.
func TestPullCancelled(t *testing.T) {
	reg := registrytest.Start(t)
	img := sample(t, runtime.GOARCH, 1, 300_000)
	reg.Push("big", "latest", img)
	blob := img.Layers[0]
	ctx, cancel := context.WithCancel(t.Context())
	var ranges []string
	host := front(t, reg, func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, digest.FromBytes(blob).String()) {
			return false
		}
		ranges = append(ranges, r.Header.Get("Range"))
		if len(ranges) > 1 {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
		_, _ = w.Write(blob[:100_000])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	})
	f := newFixture(t, coretest.Start(t))
	var out stream
	seen := func() bool { return strings.Contains(out.text(), "Downloading") }
	err := f.Pull(ctx, apiimage.PullOptions{Ref: host + "/big"}, func(m jsonMessage) error {
		_ = out.add(m)
		if seen() {
			cancel()
		}
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("cancelled pull: %v", err)
	}
	if _, err := pull(t, f, apiimage.PullOptions{Ref: host + "/big"}); err != nil {
		t.Fatal(err)
	}
	if len(ranges) != 2 || ranges[1] != "bytes=100000-" {
		t.Errorf("asked for ranges %q", ranges)
	}
}
