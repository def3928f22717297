package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	streamingapi "github.com/containerd/containerd/api/services/streaming/v1"
	transferapi "github.com/containerd/containerd/api/services/transfer/v1"
	transfertypes "github.com/containerd/containerd/api/types/transfer"
	"github.com/containerd/typeurl/v2"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/internal/testutil/need"
	"gantry/internal/testutil/registrytest"
	"gantry/internal/testutil/transfertest"
	coretransfer "gantry/libctr/core/transfer"
	"gantry/libctr/core/wire"
	"gantry/libctr/metadata"
	"gantry/libctr/stream"
)

// TestTransfers holds the core's transfers to their suite, in process and through gRPC.
func TestTransfers(t *testing.T) {
	need.Root(t, "unpacks images")
	plugin := func(t *testing.T, c *core, uri string) any {
		t.Helper()
		v, err := c.Plugin(uri)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	t.Run("local", func(t *testing.T) {
		c := start(t, newConfig(t))
		db := plugin(t, c, "io.containerd.metadata.v1.bolt").(*metadata.DB)
		transfertest.Run(t, transfertest.Subject{
			Transfers: plugin(t, c, "io.containerd.transfer.v1.local").(coretransfer.Transferrer),
			Content:   db.Content(), Images: db.Images(), Leases: db.Leases(),
			Snapshots: db.Snapshotters()["overlayfs"], Snapshotter: "overlayfs",
		})
	})
	t.Run("proxy", func(t *testing.T) {
		c := start(t, newConfig(t))
		transfertest.Run(t, transfertest.Subject{
			Transfers: c.client.Transfers(), Content: c.client.Content(), Images: c.client.Images(), Leases: c.client.Leases(),
			Snapshots: c.client.Snapshotter("native"), Snapshotter: "native",
		})
	})
}

// TestStreams opens streams as clients do, and as they should not.
func TestStreams(t *testing.T) {
	c := start(t, newConfig(t))
	m, err := c.Plugin("io.containerd.streaming.v1.manager")
	if err != nil {
		t.Fatal(err)
	}
	open := func(n int) {
		t.Helper()
		eventually(t, "streams end", func() error {
			if got := m.(*stream.Manager).Len(); got != n {
				return fmt.Errorf("%d streams, want %d", got, n)
			}
			return nil
		})
	}
	ctx, cancel := context.WithCancel(inNamespace(t.Context(), "streams"))
	defer cancel()
	if _, err := c.client.Streams().Create(ctx, "one"); err != nil {
		t.Fatal(err)
	}
	if _, err := c.client.Streams().Create(ctx, "one"); !errors.Is(err, errdefs.ErrAlreadyExists) {
		t.Errorf("the same again: %v", err)
	}
	if _, err := c.client.Streams().Create(ctx, ""); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("without an id: %v", err)
	}
	if _, err := c.client.Streams().Create(inNamespace(ctx, "others"), "one"); err != nil {
		t.Errorf("in another namespace: %v", err)
	}
	open(2)
	rpc := streamingapi.NewStreamingClient(c.client.Conn())
	s, err := rpc.Stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&anypb.Any{TypeUrl: "nonsense", Value: []byte{1}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Recv(); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("first message without sense: %v", err)
	}
	for name, req := range map[string]*transferapi.TransferRequest{
		"no such progress": {Options: &transferapi.TransferOptions{ProgressStream: "none"}},
		"no such import":   {Source: message(t, &transfertypes.ImageImportStream{Stream: "none"}), Destination: message(t, &transfertypes.ImageStore{})},
		"another's stream": {Source: message(t, &transfertypes.ImageStore{}), Destination: message(t, &transfertypes.ImageExportStream{Stream: "one"})},
	} {
		ns := "streams"
		if name == "another's stream" {
			ns = "third"
		}
		if _, err := transferapi.NewTransferClient(c.client.Conn()).Transfer(inNamespace(ctx, ns), req); !errors.Is(err, errdefs.ErrNotFound) {
			t.Errorf("%s: %v, want NotFound", name, err)
		}
	}
	for name, req := range map[string]*transferapi.TransferRequest{
		"nothing":     {},
		"other types": {Source: message(t, &transfertypes.ReadStream{}), Destination: message(t, &transfertypes.ImageStore{})},
	} {
		if _, err := transferapi.NewTransferClient(c.client.Conn()).Transfer(ctx, req); !errors.Is(err, errdefs.ErrNotImplemented) {
			t.Errorf("%s: %v, want NotImplemented", name, err)
		}
	}
	cancel()
	open(0)
}

// TestTransferLeavesStreams cancels a transfer whose stream its client keeps open.
func TestTransferLeavesStreams(t *testing.T) {
	c := start(t, newConfig(t))
	m, err := c.Plugin("io.containerd.streaming.v1.manager")
	if err != nil {
		t.Fatal(err)
	}
	ctx := inNamespace(t.Context(), "left")
	if _, err := c.client.Streams().Create(ctx, "archive"); err != nil {
		t.Fatal(err)
	}
	cut, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		_, err := transferapi.NewTransferClient(c.client.Conn()).Transfer(cut, &transferapi.TransferRequest{
			Source:      message(t, &transfertypes.ImageImportStream{Stream: "archive"}),
			Destination: message(t, &transfertypes.ImageStore{Name: "x"})})
		ended <- err
	}()
	eventually(t, "transfer begins", func() error {
		list, err := c.client.Leases().List(ctx)
		if err == nil && len(list) == 0 {
			err = errors.New("no lease")
		}
		return err
	})
	cancel()
	<-ended
	eventually(t, "stream and lease go", func() error {
		list, err := c.client.Leases().List(ctx)
		if n := m.(*stream.Manager).Len(); err == nil && n+len(list) > 0 {
			err = fmt.Errorf("%d streams, leases %v", n, list)
		}
		return err
	})
}

func message(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := typeurl.MarshalAny(m)
	if err != nil {
		t.Fatal(err)
	}
	return wire.Any(a)
}

// TestTransferEvents hears of what a pull makes, as of what a client makes by itself.
func TestTransferEvents(t *testing.T) {
	need.Root(t, "unpacks images")
	registry := registrytest.Start(t)
	layer, id := transfertest.Layer("file", "text")
	registry.Push("app", "1", registrytest.Image{Architecture: runtime.GOARCH, Layers: [][]byte{layer}, DiffIDs: []digest.Digest{id}})
	c := start(t, newConfig(t))
	ctx := inNamespace(t.Context(), "told")
	seen := counted(ctx, c)
	ref := registry.Host + "/app:1"
	unpack := []coretransfer.Unpack{{Platform: ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}}}
	for range 2 {
		err := c.client.Transfers().Transfer(ctx, &coretransfer.Registry{Reference: ref}, &coretransfer.ImageStore{Name: ref, Unpacks: unpack}, coretransfer.Options{})
		if err != nil {
			t.Fatal(err)
		}
	}
	for topic, n := range map[string]int{"/images/create": 1, "/images/update": 1, "/content/create": 3, "/snapshot/prepare": 1, "/snapshot/commit": 1} {
		eventually(t, topic, func() error {
			if got := seen(topic); got != n {
				return fmt.Errorf("%d events, want %d", got, n)
			}
			return nil
		})
	}
}

// counted says how often a topic was heard in the namespace of ctx, until ctx ends.
func counted(ctx context.Context, c *core) func(topic string) int {
	var mu sync.Mutex
	seen := map[string]int{}
	events, _ := c.client.Events().Subscribe(ctx)
	go func() { // ends with ctx
		for e := range events {
			if e.Namespace == reqctx.Namespace(ctx) {
				mu.Lock()
				seen[e.Topic]++
				mu.Unlock()
			}
		}
	}()
	return func(topic string) int {
		mu.Lock()
		defer mu.Unlock()
		return seen[topic]
	}
}

// flaky is a registry with one image, whose only layer it sends a part of, until it is
// well.
type flaky struct {
	manifest, config, layer []byte
	sick                    atomic.Bool
	sent                    atomic.Int64 // of the layer
}

const flakyPart = 3 << 20

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body := f.config
	switch {
	case strings.Contains(r.URL.Path, "/manifests/"):
		w.Header().Set("Content-Type", ocispec.MediaTypeImageManifest)
		w.Header().Set("Docker-Content-Digest", digest.FromBytes(f.manifest).String())
		body = f.manifest
	case strings.HasSuffix(r.URL.Path, digest.FromBytes(f.layer).String()):
		f.serveLayer(w, r)
		return
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(body)))
	_, _ = w.Write(body)
}

func (f *flaky) serveLayer(w http.ResponseWriter, r *http.Request) {
	from := 0
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil {
		if f.sick.Load() {
			http.Error(w, "no more", http.StatusTeapot)
			return
		}
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(f.layer)-1, len(f.layer)))
	}
	w.Header().Set("Content-Length", fmt.Sprint(len(f.layer)-from))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	rest := f.layer[from:]
	if f.sick.Load() {
		_, _ = w.Write(rest[:flakyPart])
		panic(http.ErrAbortHandler)
	}
	n, _ := w.Write(rest)
	f.sent.Add(int64(n))
}

// TestPullLater goes on with what a failed pull has left, after a collection.
func TestPullLater(t *testing.T) {
	layer := make([]byte, 8<<20)
	f := &flaky{layer: layer, config: []byte(`{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}`)}
	var err error
	f.manifest, err = json.Marshal(ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest,
		Config: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageConfig, Digest: digest.FromBytes(f.config), Size: int64(len(f.config))},
		Layers: []ocispec.Descriptor{{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(layer), Size: int64(len(layer))}},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.sick.Store(true)
	s := httptest.NewServer(f)
	defer s.Close()
	c := start(t, newConfig(t))
	ctx := inNamespace(t.Context(), "later")
	ref := strings.TrimPrefix(s.URL, "http://") + "/a/b:c"
	pull := func() error {
		return c.client.Transfers().Transfer(ctx, &coretransfer.Registry{Reference: ref, DefaultScheme: "http"},
			&coretransfer.ImageStore{Name: ref}, coretransfer.Options{})
	}
	if err := pull(); err == nil {
		t.Fatal("pulled from a registry that is sick")
	}
	l, err := c.client.Leases().Create(ctx, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.client.Leases().Delete(ctx, l.ID, true); err != nil { // collects
		t.Fatal(err)
	}
	f.sick.Store(false)
	if err := pull(); err != nil {
		t.Fatal(err)
	}
	if got := f.sent.Load(); got != int64(len(layer)-flakyPart) {
		t.Errorf("%d bytes were sent again, %d lacked", got, len(layer)-flakyPart)
	}
}
