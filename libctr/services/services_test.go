// Package services_test holds the core, served over gRPC in memory and used through
// libctr/client, to the suites that its parts pass by themselves.
package services_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	grpcmeta "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/client"
	"gantry/libctr/content"
	"gantry/libctr/content/contenttest"
	corecontent "gantry/libctr/core/content"
	"gantry/libctr/core/image"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/diff"
	"gantry/libctr/metadata"
	"gantry/libctr/metadata/metadatatest"
	"gantry/libctr/services/containers"
	contentservice "gantry/libctr/services/content"
	diffservice "gantry/libctr/services/diff"
	"gantry/libctr/services/images"
	"gantry/libctr/services/leases"
	"gantry/libctr/services/namespaces"
	"gantry/libctr/services/snapshots"
	"gantry/libctr/snapshot/overlay"
	"gantry/libctr/snapshot/snapshottest"
)

// topics hears what is published.
type topics struct {
	mu   sync.Mutex
	seen []string // guarded by mu
}

func (e *topics) Publish(ctx context.Context, topic string, _ any) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seen = append(e.seen, reqctx.Namespace(ctx)+topic)
	return nil
}

func (e *topics) take() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	seen := e.seen
	e.seen = nil
	return seen
}

type core struct {
	*client.Client
	db     *metadata.DB
	events *topics
}

// serve starts a core and returns a client of it.
func serve(t *testing.T) core {
	t.Helper()
	root := t.TempDir()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	blobs, err := content.New(filepath.Join(root, "content"))
	must(err)
	snaps, err := overlay.New(filepath.Join(root, "overlayfs"), overlay.Options{NoSync: true})
	must(err)
	t.Cleanup(func() { snaps.Close() })
	ev := &topics{}
	db, err := metadata.Open(filepath.Join(root, "meta.db"), metadata.Options{
		Content: blobs, Snapshotters: map[string]snapshot.Snapshotter{"overlayfs": snaps}, Events: ev,
	})
	must(err)
	t.Cleanup(func() { db.Close() })

	srv := grpc.NewServer(grpc.UnaryInterceptor(unary), grpc.StreamInterceptor(stream), grpc.MaxRecvMsgSize(client.MaxMessageSize))
	log := slog.New(slog.DiscardHandler)
	differ := diff.New(db.Content())
	containers.New(db.Containers(), ev, log).Register(srv)
	contentservice.New(db.Content(), ev, log).Register(srv)
	diffservice.New(differ, differ).Register(srv)
	images.New(db.Images(), ev, log).Register(srv)
	leases.New(db.Leases()).Register(srv)
	namespaces.New(db.Namespaces(), ev, log).Register(srv)
	snapshots.New(db.Snapshotters(), ev, log).Register(srv)
	l := bufconn.Listen(1 << 20)
	go srv.Serve(l) //nolint:errcheck // ends with Stop
	t.Cleanup(srv.Stop)

	c, err := client.New("", client.WithDialer(func(ctx context.Context) (net.Conn, error) { return l.DialContext(ctx) }))
	must(err)
	t.Cleanup(func() { c.Close() })
	return core{c, db, ev}
}

// incoming does what the core's server does with the headers.
func incoming(ctx context.Context) context.Context {
	md, _ := grpcmeta.FromIncomingContext(ctx)
	for _, v := range md.Get("containerd-namespace") {
		ctx = reqctx.WithNamespace(ctx, v)
	}
	for _, v := range md.Get("containerd-lease") {
		ctx = lease.With(ctx, v)
	}
	return ctx
}

func unary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, h grpc.UnaryHandler) (any, error) {
	return h(incoming(ctx), req)
}

func stream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, h grpc.StreamHandler) error {
	return h(srv, contextStream{ss, incoming(ss.Context())})
}

type contextStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s contextStream) Context() context.Context { return s.ctx }

func in(t *testing.T) context.Context { return reqctx.WithNamespace(t.Context(), "testing") }

func TestRecords(t *testing.T) {
	metadatatest.Run(t, func(t *testing.T) metadatatest.Stores {
		c := serve(t)
		return metadatatest.Stores{
			Containers: c.Containers(), Images: c.Images(), Leases: c.Leases(), Namespaces: c.Namespaces(),
		}
	})
}

func TestContent(t *testing.T) {
	contenttest.Run(t, contenttest.Options{}, func(t *testing.T) (context.Context, corecontent.Store) {
		return in(t), serve(t).Content()
	})
}

func TestSnapshotter(t *testing.T) {
	snapshottest.Run(t, func(t *testing.T) (context.Context, snapshot.Snapshotter) {
		return in(t), serve(t).Snapshotter("overlayfs")
	})
}

func TestEvents(t *testing.T) {
	c, ctx := serve(t), in(t)
	p, desc := contenttest.Blob(1, 10)
	target := metadatatest.Target("1")
	target.Digest, target.Size = desc.Digest, desc.Size
	for _, step := range []struct {
		do   func() error
		want []string
	}{
		{func() error { _, err := c.Containers().Create(ctx, metadatatest.Container("c")); return err }, []string{"testing/containers/create"}},
		{func() error { _, err := c.Containers().Create(ctx, metadatatest.Container("c")); return hide(err) }, nil},
		{func() error { _, err := c.Containers().Update(ctx, metadatatest.Container("c"), "labels"); return err }, []string{"testing/containers/update"}},
		{func() error { return c.Containers().Delete(ctx, "c") }, []string{"testing/containers/delete"}},
		{func() error { contenttest.Write(t, ctx, c.Content(), p, nil); return nil }, []string{"testing/content/create"}},
		{func() error {
			_, err := c.Images().Create(ctx, image.Image{Name: "i", Target: target})
			return err
		}, []string{"testing/images/create"}},
		{func() error { _, err := c.Images().Update(ctx, image.Image{Name: "i"}, "labels"); return err }, []string{"testing/images/update"}},
		{func() error { return c.Content().Delete(ctx, desc.Digest) }, []string{"testing/content/delete"}},
		{func() error { _, err := c.Snapshotter("overlayfs").Prepare(ctx, "s", "", nil); return err }, []string{"testing/snapshot/prepare"}},
		{func() error { return c.Snapshotter("overlayfs").Commit(ctx, "n", "s", nil) }, []string{"testing/snapshot/commit"}},
		{func() error { _, err := c.Snapshotter("overlayfs").View(ctx, "v", "n", nil); return err }, nil},
		{func() error { return c.Snapshotter("overlayfs").Remove(ctx, "v") }, []string{"testing/snapshot/remove"}},
		{func() error { return c.Images().Delete(ctx, "i", true, nil) }, []string{"testing/snapshot/remove", "testing/images/delete"}}, // n goes too
		{func() error { return c.Namespaces().Create(ctx, "new", nil) }, []string{"new/namespaces/create"}},
		{func() error { return c.Namespaces().SetLabel(ctx, "new", "a", "b") }, []string{"new/namespaces/update"}},
		{func() error { return c.Namespaces().Delete(ctx, "new") }, []string{"new/namespaces/delete"}},
	} {
		if err := step.do(); err != nil {
			t.Fatal(err)
		}
		if got := c.events.take(); !slices.Equal(got, step.want) {
			t.Errorf("events %v, want %v", got, step.want)
		}
	}
}

func hide(err error) error {
	if err == nil {
		return errors.New("no error")
	}
	return nil
}

func TestUnknownSnapshotter(t *testing.T) {
	_, err := serve(t).Snapshotter("nope").Stat(in(t), "x")
	if !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("%v", err)
	}
}

// TestWriteProtocol pins what containerd's clients rely on.
func TestWriteProtocol(t *testing.T) {
	c := serve(t)
	ctx := grpcmeta.AppendToOutgoingContext(t.Context(), "containerd-namespace", "testing")
	p, desc := contenttest.Blob(1, 100)
	type msg = contentapi.WriteContentRequest
	const (
		stat   = contentapi.WriteAction_STAT
		write  = contentapi.WriteAction_WRITE
		commit = contentapi.WriteAction_COMMIT
	)
	run := func(msgs ...*msg) (offsets []int64, digest string, code codes.Code) {
		t.Helper()
		st, err := contentapi.NewContentClient(c.Conn()).Write(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range msgs {
			if err := st.Send(m); err != nil {
				t.Fatal(err)
			}
			r, err := st.Recv()
			if err != nil {
				return offsets, digest, errCode(err)
			}
			if r.Action != m.Action {
				t.Errorf("answer to %v is of %v", m.Action, r.Action)
			}
			offsets, digest = append(offsets, r.Offset), r.Digest
		}
		st.CloseSend() //nolint:errcheck // the end is what Recv says
		for {
			if _, err := st.Recv(); err != nil {
				return offsets, digest, codes.OK
			}
		}
	}
	for _, tc := range []struct {
		name    string
		msgs    []*msg
		offsets []int64
		code    codes.Code
	}{
		{"no ref", []*msg{{Action: stat}}, nil, codes.InvalidArgument},
		{"part, then let go", []*msg{{Action: stat, Ref: "r", Total: 100}, {Action: write, Data: p[:40]}}, []int64{0, 40}, codes.OK},
		{"wrong offset", []*msg{{Action: stat, Ref: "r"}, {Action: write, Offset: 39, Data: p[39:]}}, []int64{40}, codes.OutOfRange},
		{"offset 0 starts over", []*msg{{Action: stat, Ref: "r"}, {Action: write, Data: p[:30]}}, []int64{40, 30}, codes.OK},
		{"wrong digest", []*msg{{Action: stat, Ref: "r"}, {Action: commit, Offset: 30, Expected: desc.Digest.String()}}, []int64{30}, codes.FailedPrecondition},
		{"data with commit", []*msg{
			{Action: stat, Ref: "r"}, {Action: write, Offset: 30, Data: p[30:60]},
			{Action: commit, Offset: 60, Data: p[60:], Total: 100, Expected: desc.Digest.String(), Labels: map[string]string{"l": "1"}},
		}, []int64{30, 60, 100}, codes.OK},
		{"exists at open", []*msg{{Action: stat, Ref: "r2", Expected: desc.Digest.String()}}, nil, codes.AlreadyExists},
		{"exists at commit", []*msg{{Action: stat, Ref: "r3"}, {Action: write, Data: p}, {Action: commit, Offset: 100}}, []int64{0, 100}, codes.AlreadyExists},
		{"exists, told while writing", []*msg{{Action: stat, Ref: "r4"}, {Action: write, Expected: desc.Digest.String()}}, []int64{0}, codes.AlreadyExists},
		{"all in one", []*msg{{Action: commit, Ref: "r5", Data: []byte("short")}}, []int64{5}, codes.OK},
		{"unknown action", []*msg{{Action: 7, Ref: "r6"}}, nil, codes.InvalidArgument},
	} {
		t.Run(tc.name, func(t *testing.T) {
			offsets, _, code := run(tc.msgs...)
			if !slices.Equal(offsets, tc.offsets) || code != tc.code {
				t.Errorf("offsets %v, code %v; want %v, %v", offsets, code, tc.offsets, tc.code)
			}
		})
	}
	info, err := c.Content().Info(in(t), desc.Digest)
	if err != nil || info.Labels["l"] != "1" {
		t.Errorf("info %+v, %v", info, err)
	}
	if list, err := c.Content().ListStatuses(in(t)); err != nil || len(list) != 1 || list[0].Ref != "r6" {
		t.Errorf("ingests left: %+v, %v", list, err)
	}
}

// errCode undoes what the client's interceptor has made of a status.
func errCode(err error) codes.Code {
	for class, code := range map[error]codes.Code{
		errdefs.ErrInvalidArgument: codes.InvalidArgument, errdefs.ErrOutOfRange: codes.OutOfRange,
		errdefs.ErrFailedPrecondition: codes.FailedPrecondition, errdefs.ErrAlreadyExists: codes.AlreadyExists,
	} {
		if errors.Is(err, class) {
			return code
		}
	}
	return status.Code(err)
}

func TestLeaseCrossesTheWire(t *testing.T) {
	c, ctx := serve(t), in(t)
	if _, err := c.Leases().Create(ctx, "l", nil); err != nil {
		t.Fatal(err)
	}
	under := lease.With(ctx, "l")
	p, desc := contenttest.Blob(1, 10)
	contenttest.Write(t, under, c.Content(), p, nil)
	if _, err := c.Snapshotter("overlayfs").Prepare(under, "s", "", nil); err != nil {
		t.Fatal(err)
	}
	got, err := c.Leases().ListResources(ctx, "l")
	want := []lease.Resource{{Type: "content", ID: desc.Digest.String()}, {Type: "snapshots/overlayfs", ID: "s"}}
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("resources %v, %v; want %v", got, err, want)
	}
	if err := c.Leases().Delete(ctx, "l", true); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Content().Info(ctx, desc.Digest); !errdefs.IsNotFound(err) {
		t.Errorf("content outlives its lease: %v", err)
	}
	_, err = c.Snapshotter("overlayfs").Prepare(lease.With(ctx, "gone"), "s", "", nil)
	if !errdefs.IsNotFound(err) {
		t.Errorf("prepare under a lease that is not there: %v", err)
	}
}
