package registry_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	corecontent "gantry/libctr/core/content"
	"gantry/libctr/core/manifest"
	"gantry/libctr/core/transfer"
	"gantry/libctr/registry"
)

// serve runs a registry of the test's own and returns its host.
func serve(t *testing.T, fn http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(fn)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func fetcher(t *testing.T, c *registry.Client, host string) *registry.Fetcher {
	t.Helper()
	remote, err := c.Open(t.Context(), &transfer.Registry{Reference: host + "/a/b:c"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(remote.Close)
	f, err := remote.Fetcher(t.Context(), host+"/a/b:c")
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func descriptor(p []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(p), Size: int64(len(p))}
}

// endless is a body that goes on until the connection is closed.
func endless(w io.Writer, r *http.Request) {
	if r.Method == http.MethodHead {
		return
	}
	b := make([]byte, 64<<10)
	for {
		if _, err := w.Write(b); err != nil {
			return
		}
	}
}

// TestHostileBlobs fetches what is not what its descriptor says. Nothing is stored and
// nothing is left to resume.
func TestHostileBlobs(t *testing.T) {
	good := []byte(strings.Repeat("layer", 100_000))
	for name, tc := range map[string]struct {
		desc  func(d *ocispec.Descriptor)
		serve http.HandlerFunc
		class error  // nil for any
		text  string // in the error
		kept  bool   // what came is resumed later
	}{
		"another digest": {class: errdefs.ErrFailedPrecondition, text: "digest", serve: func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte(strings.Repeat("wrong", 100_000)))
		}},
		"a body without an end": {class: errdefs.ErrFailedPrecondition, serve: func(w http.ResponseWriter, r *http.Request) { endless(w, r) }},
		"too long by one":       {class: errdefs.ErrFailedPrecondition, serve: func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(append(good[:len(good):len(good)], 'x')) }},
		"too short": {kept: true, serve: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(good[:1000])
		}},
		"a length it does not keep": {kept: true, serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(good)))
			_, _ = w.Write(good[:1000])
		}},
		"redirect to a file": {serve: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "file:///etc/passwd", http.StatusTemporaryRedirect)
		}, text: "unsupported protocol scheme"},
		"redirects without an end": {serve: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, r.URL.Path+"x", http.StatusTemporaryRedirect)
		}, text: "10 redirects"},
		"not there":         {class: errdefs.ErrNotFound, serve: http.NotFound},
		"a size of nothing": {desc: func(d *ocispec.Descriptor) { d.Size = 0 }, class: errdefs.ErrInvalidArgument, text: "size of zero"},
		"a negative size":   {desc: func(d *ocispec.Descriptor) { d.Size = -1 }, class: errdefs.ErrInvalidArgument, text: "negative"},
		"no digest":         {desc: func(d *ocispec.Descriptor) { d.Digest = "sha256:../../etc" }, class: errdefs.ErrInvalidArgument},
		"schema 1":          {desc: func(d *ocispec.Descriptor) { d.MediaType = manifest.DockerSchema1 }, class: errdefs.ErrInvalidArgument, text: "schema 1"},
		"a huge manifest": {desc: func(d *ocispec.Descriptor) { d.MediaType, d.Size = ocispec.MediaTypeImageManifest, 1<<30 },
			class: errdefs.ErrResourceExhausted},
		"a file's URL": {desc: func(d *ocispec.Descriptor) { d.URLs = []string{"file:///etc/passwd"} }, class: errdefs.ErrNotFound, serve: http.NotFound},
		"compressed to much more": {serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte("no gzip at all"))
		}, kept: true},
		"a window of half a gigabyte": {class: errdefs.ErrFailedPrecondition, text: "zstd", serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Add("Content-Encoding", "identity")
			w.Header().Add("Content-Encoding", "ZSTD")
			_, _ = w.Write([]byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 19 << 3, 0x03, 0, 0x10, 'a'})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := descriptor(good)
			if tc.desc != nil {
				tc.desc(&d)
			}
			if tc.serve == nil {
				tc.serve = func(http.ResponseWriter, *http.Request) { t.Error("the registry was asked") }
			}
			s := store(t)
			err := fetcher(t, registry.New(registry.Config{}), serve(t, tc.serve)).Fetch(t.Context(), s, d, nil, nil)
			if err == nil || tc.class != nil && !errors.Is(err, tc.class) || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("fetch: %v, want class %v and %q", err, tc.class, tc.text)
			}
			if _, err := s.Info(t.Context(), descriptor(good).Digest); !errdefs.IsNotFound(err) {
				t.Errorf("the blob is there: %v", err)
			}
			list, err := s.ListStatuses(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			wrong := errors.Is(tc.class, errdefs.ErrFailedPrecondition)
			if wrong && len(list) != 0 {
				t.Errorf("left to resume: %+v", list)
			}
		})
	}
}

// TestHostileManifests resolves names to nonsense.
func TestHostileManifests(t *testing.T) {
	for name, tc := range map[string]struct {
		serve http.HandlerFunc
		class error
	}{
		"a manifest without an end": {class: errdefs.ErrResourceExhausted, serve: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			endless(w, r)
		}},
		"a digest that is none": {serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Docker-Content-Digest", "sha256:x")
			w.Header().Set("Content-Length", "3")
			_, _ = w.Write([]byte("abc"))
		}},
		"a huge one, announced": {class: errdefs.ErrNotFound, serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Docker-Content-Digest", digest.FromString("x").String())
			w.Header().Set("Content-Length", fmt.Sprint(1<<30))
		}},
		"an error without an end": {serve: func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			endless(w, r)
		}},
		"a token without an end": {class: errdefs.ErrResourceExhausted, serve: func(w http.ResponseWriter, r *http.Request) {
			if strings.HasPrefix(r.URL.Path, "/token") {
				_, err := io.WriteString(w, `{"token":"`)
				for letters := strings.Repeat("a", 64<<10); err == nil; {
					_, err = io.WriteString(w, letters)
				}
				return
			}
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token/blobs/x",service="x",scope="y"`, r.Host))
			w.WriteHeader(http.StatusUnauthorized)
		}},
		"a manifest without an end, elsewhere": {class: errdefs.ErrResourceExhausted, serve: func(w http.ResponseWriter, r *http.Request) {
			if !strings.Contains(r.URL.Path, "/blobs/") {
				http.Redirect(w, r, "/blobs/x", http.StatusTemporaryRedirect)
				return
			}
			w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
			endless(w, r)
		}},
		"a challenge of nobody": {serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("WWW-Authenticate", `Bearer realm="file:///etc/passwd",service="x"`)
			w.WriteHeader(http.StatusUnauthorized)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := pull(t, registry.New(registry.Config{}), &transfer.Registry{Reference: serve(t, tc.serve) + "/a/b:c"}, store(t))
			if err == nil || tc.class != nil && !errors.Is(err, tc.class) {
				t.Errorf("resolve: %v, want class %v", err, tc.class)
			}
		})
	}
}

// TestAddressesOfManifests has the core not ask whom a manifest names.
func TestAddressesOfManifests(t *testing.T) {
	good := []byte(strings.Repeat("layer", 100_000))
	var asked atomic.Bool
	other := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		asked.Store(true)
		_, _ = w.Write(good)
	})
	host := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(good) })
	d := descriptor(good)
	d.URLs = []string{"http://" + other + "/latest/meta-data"}
	if err := fetcher(t, registry.New(registry.Config{}), host).Fetch(t.Context(), store(t), d, nil, nil); err != nil || asked.Load() {
		t.Errorf("fetch: %v, the other was asked: %v", err, asked.Load())
	}
}

// TestResume cuts connections, within a fetch and between two; every byte is sent once.
func TestResume(t *testing.T) {
	good := []byte(strings.Repeat("0123456789", 200_000))
	var sent, ranges atomic.Int64
	var cut atomic.Bool
	host := serve(t, func(w http.ResponseWriter, r *http.Request) {
		from := int64(0)
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
			ranges.Add(1)
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(good)-1, len(good)))
		}
		rest := good[from:]
		w.Header().Set("Content-Length", fmt.Sprint(len(rest)))
		if from > 0 {
			w.WriteHeader(http.StatusPartialContent)
		}
		if cut.Load() {
			rest = rest[:min(len(rest), 300_000)]
		}
		n, _ := w.Write(rest)
		sent.Add(int64(n))
		if cut.Load() {
			panic(http.ErrAbortHandler)
		}
	})
	d := descriptor(good)
	cut.Store(true)
	s := store(t)
	var told int64
	if err := fetcher(t, registry.New(registry.Config{}), host).Fetch(t.Context(), s, d, nil, func(n int64) { told = n }); err != nil {
		t.Fatal(err)
	}
	if told != d.Size || ranges.Load() < 3 {
		t.Errorf("told of %d bytes of %d, %d ranges", told, d.Size, ranges.Load())
	}

	t.Run("later", func(t *testing.T) {
		cut.Store(false)
		ranges.Store(0)
		s := store(t)
		leave(t, s, d, good[:1_500_000])
		sent.Store(0)
		if err := fetcher(t, registry.New(registry.Config{}), host).Fetch(t.Context(), s, d, nil, nil); err != nil {
			t.Fatal(err)
		}
		if sent.Load() != d.Size-1_500_000 || ranges.Load() != 1 {
			t.Errorf("sent %d bytes in %d ranges", sent.Load(), ranges.Load())
		}
	})
	t.Run("what was wrong", func(t *testing.T) {
		s := store(t)
		leave(t, s, d, []byte("something else"))
		if err := fetcher(t, registry.New(registry.Config{}), host).Fetch(t.Context(), s, d, nil, nil); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("what was whole", func(t *testing.T) {
		s := store(t)
		leave(t, s, d, good)
		sent.Store(0)
		if err := fetcher(t, registry.New(registry.Config{}), host).Fetch(t.Context(), s, d, nil, nil); err != nil || sent.Load() != 0 {
			t.Errorf("%v, %d bytes sent", err, sent.Load())
		}
	})
	t.Run("in pieces", func(t *testing.T) {
		ranges.Store(0)
		c := registry.New(registry.Config{Chunk: 128 << 10, MaxDownloads: 4})
		if err := fetcher(t, c, host).Fetch(t.Context(), store(t), d, nil, nil); err != nil {
			t.Fatal(err)
		}
		if ranges.Load() < 2 {
			t.Errorf("%d ranges", ranges.Load())
		}
	})
	t.Run("two at a time", func(t *testing.T) {
		s := store(t)
		f := fetcher(t, registry.New(registry.Config{}), host)
		errs := make(chan error, 2)
		for range 2 {
			go func() { errs <- f.Fetch(t.Context(), s, d, nil, nil) }()
		}
		for range 2 {
			if err := <-errs; err != nil && !errdefs.IsAlreadyExists(err) {
				t.Error(err)
			}
		}
	})
}

// leave begins an ingest as a fetch that was killed does.
func leave(t *testing.T, s corecontent.Store, d ocispec.Descriptor, p []byte) {
	t.Helper()
	w, err := s.Writer(t.Context(), corecontent.WriterOptions{Ref: manifest.Ref(d), Desc: d})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(p); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDownloads keeps the bound of requests at a time, over all pulls.
func TestDownloads(t *testing.T) {
	var now, most atomic.Int64
	var once sync.Once
	release := make(chan struct{})
	host := serve(t, func(w http.ResponseWriter, r *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n >= 2 {
			once.Do(func() { close(release) })
		}
		<-release
		_, _ = w.Write([]byte(r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]))
	})
	c := registry.New(registry.Config{MaxDownloads: 2})
	errs := make(chan error)
	for i := range 6 {
		f, s := fetcher(t, c, host), store(t)
		go func() {
			// None of them is what it says; that they were asked for is enough.
			errs <- f.Fetch(t.Context(), s, descriptor(fmt.Appendf(nil, "%071d", i)), nil, nil)
		}()
	}
	for range 6 {
		if err := <-errs; !errors.Is(err, errdefs.ErrFailedPrecondition) {
			t.Error(err)
		}
	}
	if most.Load() != 2 {
		t.Errorf("%d requests at a time", most.Load())
	}
}
