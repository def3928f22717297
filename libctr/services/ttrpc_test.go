package services_test

import (
	"context"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	ttrpcapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	versionapi "github.com/containerd/containerd/api/services/version/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gantry/internal/testutil/coretest"
)

// dialShims connects as a shim does.
func dialShims(t *testing.T, address string) ttrpcapi.TTRPCEventsService {
	t.Helper()
	conn, err := net.Dial("unix", address+".ttrpc")
	if err != nil {
		t.Fatal(err)
	}
	c := ttrpc.NewClient(conn)
	t.Cleanup(func() { c.Close() })
	return ttrpcapi.NewTTRPCEventsClient(c)
}

// TestBesideForward plays what shims may send to both sides, but for an envelope without an
// event, of which containerd 1.6 dies.
func TestBesideForward(t *testing.T) {
	theirAddress, ourAddress := coretest.ServeContainerd(t), coretest.Serve(t)
	theirs, ours := dialSide(t, theirAddress), dialSide(t, ourAddress)
	theirEvents, ourEvents := theirs.subscribe(t), ours.subscribe(t)
	theirShim, ourOwn := dialShims(t, theirAddress), dialShims(t, ourAddress)
	now, ev := timestamppb.Now(), protobuf(t, &emptypb.Empty{})
	for _, tc := range []struct {
		name string
		e    *types.Envelope
		ours string // our code, where containerd has another one
	}{
		{name: "good", e: &types.Envelope{Timestamp: now, Namespace: "fwd", Topic: "/x/y", Event: ev}},
		{name: "unknown event", e: &types.Envelope{Timestamp: now, Namespace: "fwd", Topic: "/x", Event: &anypb.Any{TypeUrl: "a/b", Value: []byte{1}}}},
		{name: "no time", e: &types.Envelope{Namespace: lenient, Topic: "/x", Event: ev}, ours: "InvalidArgument"}, // containerd 2.x takes 1970
		{name: "no namespace", e: &types.Envelope{Timestamp: now, Topic: "/x/y", Event: ev}},
		{name: "bad namespace", e: &types.Envelope{Timestamp: now, Namespace: "a/b", Topic: "/x/y", Event: ev}},
		{name: "no topic", e: &types.Envelope{Timestamp: now, Namespace: "fwd", Event: ev}},
		{name: "bad topic", e: &types.Envelope{Timestamp: now, Namespace: "fwd", Topic: "x", Event: ev}},
		{name: "long topic", e: &types.Envelope{Timestamp: now, Namespace: "fwd", Topic: "/" + strings.Repeat("x", 77), Event: ev}},
	} {
		send := func(to ttrpcapi.TTRPCEventsService) string {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			_, err := to.Forward(ctx, &ttrpcapi.ForwardRequest{Envelope: tc.e})
			if err == nil {
				return codes.OK.String()
			}
			return writtenError(err)
		}
		got, ref := send(ourOwn), theirs.reworded(send(theirShim))
		if tc.ours != "" {
			got, _, _ = strings.Cut(got, ":")
			ref = tc.ours
		}
		if got != ref {
			t.Errorf("%s: %s\nwant %s", tc.name, got, ref)
		}
	}
	ref, got := strings.Join(theirEvents(), "\n"), strings.Join(ourEvents(), "\n")
	if got != ref {
		t.Errorf("events\n%s\nwant\n%s", got, ref)
	}
}

// TestHostileShim forwards the empty message and random ones: none may end in a panic, nor
// the connection.
func TestHostileShim(t *testing.T) {
	address := coretest.Serve(t)
	shim := dialShims(t, address)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	m := mess{rand.New(rand.NewPCG(seed, 0))}
	for round := range 200 {
		var r ttrpcapi.ForwardRequest
		if round > 0 {
			m.fill(r.ProtoReflect(), 0)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		_, err := shim.Forward(ctx, &r)
		cancel()
		if _, isStatus := status.FromError(err); !isStatus || status.Code(err) == codes.Internal {
			t.Fatalf("%v of %v", err, &r)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := versionapi.NewVersionClient(dialSide(t, address).conn).Version(ctx, &emptypb.Empty{}); err != nil {
		t.Errorf("the core is gone: %v", err)
	}
}
