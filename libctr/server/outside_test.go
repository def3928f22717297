package server_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthapi "google.golang.org/grpc/health/grpc_health_v1"

	"gantry/api/errdefs"
	"gantry/api/rpcstatus"
	"gantry/internal/testutil/need"
	contentstore "gantry/libctr/content"
	"gantry/libctr/core/content"
	corediff "gantry/libctr/core/diff"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/diff"
	"gantry/libctr/event"
	"gantry/libctr/server"
	contentservice "gantry/libctr/services/content"
	diffservice "gantry/libctr/services/diff"
	"gantry/libctr/services/snapshots"
	"gantry/libctr/snapshot/native"
)

// outsideVariable makes the test's binary another process's plugins: its value is the
// directory that holds what they keep and their socket.
const outsideVariable = "GANTRY_TEST_OUTSIDE"

func init() {
	if dir := os.Getenv(outsideVariable); dir != "" {
		fmt.Fprintln(os.Stderr, "outside plugins:", serveOutside(dir))
		os.Exit(1)
	}
}

// serveOutside serves a snapshotter, a content store and a differ as a plugin author
// would: on their own, without namespaces and records.
func serveOutside(dir string) error {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	blobs, err := contentstore.New(filepath.Join(dir, "content"))
	if err != nil {
		return err
	}
	sn, err := native.New(filepath.Join(dir, "snapshots"), native.Options{Log: log})
	if err != nil {
		return err
	}
	_ = os.Remove(filepath.Join(dir, "sock"))
	l, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		return err
	}
	x, d := event.NewExchange(), diff.New(blobs)
	s := grpc.NewServer(
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
			r, err := h(inNamespace(ctx, "outside"), req)
			return r, rpcstatus.To(err)
		}),
		grpc.StreamInterceptor(func(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
			return rpcstatus.To(h(srv, ss))
		}))
	snapshots.New(map[string]snapshot.Snapshotter{"elsewhere": sn}, x, log).Register(s)
	contentservice.New(blobs, x, log).Register(s)
	diffservice.New(d, d).Register(s)
	healthapi.RegisterHealthServer(s, health.NewServer())
	return s.Serve(l)
}

// outside is that other process.
type outside struct {
	dir string
	cmd *exec.Cmd
}

func (o *outside) socket() string { return filepath.Join(o.dir, "sock") }

func (o *outside) launch(t *testing.T) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o.cmd = exec.Command(self)
	o.cmd.Env = append(os.Environ(), outsideVariable+"="+o.dir)
	o.cmd.Stderr = os.Stderr
	if err := o.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if c, err := net.Dial("unix", o.socket()); err == nil {
			c.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the other process does not listen")
		}
	}
}

func (o *outside) kill() {
	_ = o.cmd.Process.Kill()
	_ = o.cmd.Wait()
}

func startOutside(t *testing.T) *outside {
	t.Helper()
	dir, err := os.MkdirTemp("", "outside")
	if err != nil {
		t.Fatal(err)
	}
	o := &outside{dir: dir}
	o.launch(t)
	t.Cleanup(func() {
		o.kill()
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return o
}

// withOutside is a core whose content, one of whose snapshotters and whose differ are
// in that process.
func withOutside(t *testing.T, o *outside) *core {
	cfg := newConfig(t)
	cfg.DisabledPlugins = []string{"io.containerd.content.v1.content"}
	cfg.ProxyPlugins = map[string]server.ProxyPlugin{
		"store":     {Type: "content", Address: o.socket()},
		"elsewhere": {Type: "snapshot", Address: "unix://" + o.socket(), Exports: map[string]string{"root": o.dir}, Capabilities: []string{"odd"}},
		"far":       {Type: "io.containerd.differ.v1", Address: o.socket(), Platform: "linux/arm64"},
		"strange":   {Type: "what", Address: o.socket()},
	}
	cfg.Plugins = map[string]any{"io.containerd.service.v1.diff-service": map[string]any{"default": []string{"far"}}}
	return start(t, cfg)
}

func writeBlob(t *testing.T, store content.Store, ref string, data []byte) ocispec.Descriptor {
	t.Helper()
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(data), Size: int64(len(data))}
	w, err := store.Writer(t.Context(), content.WriterOptions{Ref: ref, Desc: desc})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(t.Context(), desc.Size, desc.Digest, map[string]string{"containerd.io/gc.root": "1"}); err != nil {
		t.Fatal(err)
	}
	return desc
}

func readBlob(ctx context.Context, store content.Store, desc ocispec.Descriptor) ([]byte, error) {
	r, err := store.ReaderAt(ctx, desc)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
}

func TestOutsidePlugins(t *testing.T) {
	need.Root(t, "unpacks a layer")
	o := startOutside(t)
	c := withOutside(t, o)
	blobs, sn := c.client.Content(), c.client.Snapshotter("elsewhere")

	// How they show themselves.
	plugins, err := c.client.Introspection().Plugins(t.Context(), "id==elsewhere", "id==far", "id==strange")
	if err != nil || len(plugins) != 2 {
		t.Fatalf("plugins %v, %v", plugins, err)
	}
	for _, p := range plugins {
		switch p.GetID() {
		case "elsewhere":
			if p.GetExports()["root"] != o.dir || !strings.Contains(p.GetExports()["address"], o.socket()) || p.GetCapabilities()[0] != "odd" {
				t.Errorf("elsewhere: %v", p)
			}
		case "far":
			if p.GetPlatforms()[0].GetArchitecture() != "arm64" {
				t.Errorf("far: %v", p)
			}
		}
	}

	// A blob of many messages, there and back, and a part of it.
	data := make([]byte, 9<<20)
	_, _ = rand.Read(data)
	big := writeBlob(t, blobs, "big", data)
	if got, err := readBlob(t.Context(), blobs, big); err != nil || !bytes.Equal(got, data) {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	r, err := blobs.ReaderAt(t.Context(), big)
	if err != nil {
		t.Fatal(err)
	}
	part := make([]byte, 3<<20)
	if _, err := r.ReadAt(part, 5<<20); err != nil || !bytes.Equal(part, data[5<<20:8<<20]) {
		t.Errorf("read a part: %v", err)
	}
	if _, err := r.ReadAt(part, 8<<20); !errors.Is(err, io.EOF) {
		t.Errorf("read past the end: %v", err)
	}
	r.Close()
	if left, err := os.ReadDir(filepath.Join(c.cfg.Root, "io.containerd.content.v1.content")); err == nil {
		t.Errorf("the core has content of its own: %v", left)
	}

	// A layer is unpacked by the other differ into the other snapshotter.
	packed, _ := layerOf(t, userland(t))
	layer := writeBlob(t, blobs, "layer", packed)
	layer.MediaType = ocispec.MediaTypeImageLayerGzip
	mounts, err := sn.Prepare(t.Context(), "unpack", "", map[string]string{"containerd.io/gc.root": "1"})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(mounts[0].Source, o.dir) {
		t.Errorf("mounts %v", mounts)
	}
	if _, err := c.client.Differ().Apply(t.Context(), layer, mounts, corediff.ApplyOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := sn.Commit(t.Context(), "base", "unpack", map[string]string{"containerd.io/gc.root": "1"}); err != nil {
		t.Fatal(err)
	}
	if u, err := sn.Usage(t.Context(), "base"); err != nil || u.Size == 0 {
		t.Errorf("usage %+v, %v", u, err)
	}

	// The classes of its errors arrive.
	if _, err := sn.Stat(t.Context(), "nope"); !errdefs.IsNotFound(err) {
		t.Errorf("stat: %v", err)
	}
	if _, err := sn.Prepare(t.Context(), "again", "nope", nil); !errdefs.IsNotFound(err) {
		t.Errorf("prepare: %v", err)
	}
	if _, err := sn.Prepare(t.Context(), "k", "base", nil); err != nil {
		t.Error(err)
	}
	if _, err := sn.Prepare(t.Context(), "k", "base", nil); !errdefs.IsAlreadyExists(err) {
		t.Errorf("prepare again: %v", err)
	}

	// It dies: calls that need it say so at once, others go on; it comes back with all.
	o.kill()
	for name, call := range map[string]func() error{
		"read":    func() error { _, err := readBlob(t.Context(), blobs, big); return err },
		"prepare": func() error { _, err := sn.Prepare(t.Context(), "k2", "base", nil); return err },
		"apply": func() error {
			_, err := c.client.Differ().Apply(t.Context(), layer, mounts, corediff.ApplyOptions{})
			return err
		},
	} {
		if err := call(); !errors.Is(err, errdefs.ErrUnavailable) {
			t.Errorf("%s with nobody there: %v", name, err)
		}
	}
	if _, err := c.client.Snapshotter("native").Prepare(t.Context(), "here", "", nil); err != nil {
		t.Errorf("a plugin of the core: %v", err)
	}
	if _, err := c.client.Images().List(t.Context()); err != nil {
		t.Errorf("list images: %v", err)
	}
	o.launch(t)
	var got []byte
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if got, err = readBlob(t.Context(), blobs, big); err == nil || time.Now().After(deadline) {
			break
		}
	}
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("read after its return: %d bytes, %v", len(got), err)
	}
	if _, err := sn.Prepare(t.Context(), "k2", "base", nil); err != nil {
		t.Errorf("prepare after its return: %v", err)
	}
}
