package client

import (
	"cmp"
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	sandboxapi "github.com/containerd/containerd/api/services/sandbox/v1"
	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	transferapi "github.com/containerd/containerd/api/services/transfer/v1"
	"google.golang.org/grpc"
)

// A core that never answers is given up, but for calls that may take for ever; a
// caller's own deadline stays.
func TestPatience(t *testing.T) {
	stuck := func(ctx context.Context, _ string, _, _ any, _ *grpc.ClientConn, _ ...grpc.CallOption) error {
		<-ctx.Done()
		return ctx.Err()
	}
	synctest.Test(t, func(t *testing.T) {
		call := func(ctx context.Context, method string) error {
			return unary("ns")(ctx, method, nil, nil, nil, stuck)
		}
		for _, method := range []string{"/containerd.services.tasks.v1.Tasks/Kill", "/containerd.services.images.v1.Images/List"} {
			begun, want := time.Now(), cmp.Or(brief[method], patience)
			if err := call(t.Context(), method); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != want {
				t.Errorf("%s: %v after %s, want %s", method, err, time.Since(begun), want)
			}
		}
		begun := time.Now()
		own, cancel := context.WithTimeout(t.Context(), 2*patience)
		defer cancel()
		if err := call(own, "/containerd.services.tasks.v1.Tasks/Kill"); err == nil || time.Since(begun) != 2*patience {
			t.Errorf("own deadline: %v after %s", err, time.Since(begun))
		}
		begun = time.Now()
		life, end := context.WithCancel(t.Context())
		time.AfterFunc(time.Hour, end)
		if err := call(life, "/containerd.services.tasks.v1.Tasks/Wait"); err == nil || time.Since(begun) != time.Hour {
			t.Errorf("wait: %v after %s", err, time.Since(begun))
		}
	})
	known := map[string]bool{}
	for _, d := range []grpc.ServiceDesc{
		tasksapi.Tasks_ServiceDesc, diffapi.Diff_ServiceDesc, transferapi.Transfer_ServiceDesc, snapshotsapi.Snapshots_ServiceDesc,
		imagesapi.Images_ServiceDesc, leasesapi.Leases_ServiceDesc, sandboxapi.Controller_ServiceDesc,
	} {
		for _, m := range d.Methods {
			known["/"+d.ServiceName+"/"+m.MethodName] = true
		}
	}
	for m := range unbounded {
		if !known[m] {
			t.Errorf("there is no %s", m)
		}
	}
	for m := range brief {
		if !known[m] || unbounded[m] {
			t.Errorf("%s: there, %v, and without a bound, %v", m, known[m], unbounded[m])
		}
	}
}
