package image_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/pkg/jsonmessage"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/daemon/image"
	"gantry/internal/testutil/coretest"
	"gantry/libctr/client"
	coreimage "gantry/libctr/core/image"
)

// fixture is a service on a core of its own.
type fixture struct {
	*image.Service
	core   *client.Client
	events *recorder
}

// recorder keeps events as "action id name".
type recorder struct {
	mu  sync.Mutex
	all []string
}

func (r *recorder) Publish(typ events.Type, action events.Action, a events.Actor) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, fmt.Sprintf("%s %s %s %s", typ, action, a.ID, a.Attributes["name"]))
}

func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := r.all
	r.all = nil
	return out
}

func newFixture(t testing.TB, c *client.Client) *fixture {
	t.Helper()
	ev := &recorder{}
	s := image.New(image.Core{
		Content: c.Content(), Images: c.Images(), Snapshots: c.Snapshotter("overlayfs"),
		Applier: c.Differ(), Leases: c.Leases(),
	}, image.Config{RetryDelay: 10 * time.Millisecond}, ev, coretest.Log(t))
	return &fixture{Service: s, core: c, events: ev}
}

// cores are what the service stands on: ours and, by the same calls, a real containerd.
func cores(t *testing.T, run func(t *testing.T, f *fixture)) {
	t.Run("core", func(t *testing.T) { run(t, newFixture(t, coretest.Start(t))) })
	t.Run("containerd", func(t *testing.T) { run(t, newFixture(t, coretest.Containerd(t))) })
}

type jsonMessage = jsonmessage.JSONMessage

// stream collects progress objects.
type stream struct {
	mu  sync.Mutex
	all []jsonmessage.JSONMessage
}

func (s *stream) add(m jsonmessage.JSONMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, m)
	return nil
}

// text is the stream, one object per line: id, status, stream text.
func (s *stream) text() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var b strings.Builder
	for _, m := range s.all {
		if m.ID != "" {
			b.WriteString(m.ID + ": ")
		}
		b.WriteString(m.Status + strings.TrimRight(m.Stream, "\n") + "\n")
	}
	return b.String()
}

func load(t testing.TB, f *fixture, tar []byte) string {
	t.Helper()
	var out stream
	if err := f.Load(t.Context(), bytes.NewReader(tar), nil, false, out.add); err != nil {
		t.Fatalf("load: %v", err)
	}
	return out.text()
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// record is a name for a target that is not there.
func record(d digest.Digest) coreimage.Image {
	return coreimage.Image{
		Name:   "example.com/" + d.Encoded()[:12] + ":latest",
		Target: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: d, Size: 1},
	}
}
