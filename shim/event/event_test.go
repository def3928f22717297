package event_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/containerd/containerd/api/events"
	eventsapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/shim/event"
)

// receiver is an engine's end.
type receiver struct {
	mu  sync.Mutex
	ids []string
	got chan struct{}
}

func (r *receiver) Forward(_ context.Context, req *eventsapi.ForwardRequest) (*emptypb.Empty, error) {
	var e events.TaskOOM
	if req.Envelope.Namespace != "ns" || req.Envelope.Topic != "/tasks/oom" || req.Envelope.Event.TypeUrl != "containerd.events.TaskOOM" {
		return nil, fmt.Errorf("strange envelope %v", req.Envelope)
	}
	if err := proto.Unmarshal(req.Envelope.Event.Value, &e); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids = append(r.ids, e.ContainerID)
	r.got <- struct{}{}
	return &emptypb.Empty{}, nil
}

// serve runs an engine at path until stop.
func (r *receiver) serve(t *testing.T, path string) (stop func()) {
	t.Helper()
	srv, err := ttrpc.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	eventsapi.RegisterTTRPCEventsService(srv, r)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	go srv.Serve(context.Background(), l)
	return func() { srv.Close() }
}

func (r *receiver) await(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case <-r.got:
		case <-time.After(10 * time.Second):
			t.Fatal("event does not come")
		}
	}
}

func TestOrderAcrossRestarts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	r := &receiver{got: make(chan struct{}, 100)}
	p := event.NewPublisher(path, "ns", slog.New(slog.DiscardHandler))
	publish := func(from, to int) {
		for i := from; i < to; i++ {
			p.Publish("/tasks/oom", &events.TaskOOM{ContainerID: fmt.Sprint(i)})
		}
	}
	publish(0, 5) // nobody there yet
	stop := r.serve(t, path)
	r.await(t, 5)
	stop()
	publish(5, 8)
	stop = r.serve(t, path)
	defer stop()
	r.await(t, 3)
	publish(8, 10)
	p.Close(context.Background())
	r.mu.Lock()
	defer r.mu.Unlock()
	// One whose answer was lost with the engine is sent again.
	if got := fmt.Sprint(slices.Compact(r.ids)); got != "[0 1 2 3 4 5 6 7 8 9]" {
		t.Errorf("got %s", got)
	}
}

func TestCloseGivesUp(t *testing.T) {
	p := event.NewPublisher(filepath.Join(t.TempDir(), "nobody"), "ns", slog.New(slog.DiscardHandler))
	for i := range 5000 { // more than the spool takes
		p.Publish("/tasks/oom", &events.TaskOOM{ContainerID: fmt.Sprint(i)})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	p.Close(ctx)
}
