package rpcstatus_test

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"github.com/containerd/errdefs/pkg/errgrpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gantry/api/errdefs"
	"gantry/api/rpcstatus"
)

var classes = []error{
	errdefs.ErrInvalidArgument, errdefs.ErrNotFound, errdefs.ErrAlreadyExists, errdefs.ErrPermissionDenied,
	errdefs.ErrResourceExhausted, errdefs.ErrFailedPrecondition, errdefs.ErrConflict, errdefs.ErrNotModified,
	errdefs.ErrNotImplemented, errdefs.ErrUnauthenticated, errdefs.ErrUnavailable, errdefs.ErrInternal,
	errdefs.ErrDataLoss, errdefs.ErrAborted, errdefs.ErrOutOfRange,
	context.Canceled, context.DeadlineExceeded,
}

func TestEveryClassSurvivesTwoHops(t *testing.T) {
	const text = "task x: something: not found in $PATH"
	for _, class := range classes {
		t.Run(class.Error(), func(t *testing.T) {
			err := errdefs.WithClass(class, errors.New(text))
			for hop := range 2 {
				err = rpcstatus.From(rpcstatus.To(err))
				if !errors.Is(err, class) || err.Error() != text {
					t.Fatalf("hop %d: got %q, is %v: %v", hop, err, class, errors.Is(err, class))
				}
				err = fmt.Errorf("%w", err)
			}
		})
	}
}

func TestForeignPeersAgree(t *testing.T) {
	for _, class := range classes {
		t.Run(class.Error(), func(t *testing.T) {
			ours := rpcstatus.To(errdefs.WithClass(class, errors.New("some text")))
			if got := errgrpc.ToNative(ours); !errors.Is(got, class) {
				t.Errorf("a foreign client reads %v", got)
			}
			theirs := errgrpc.ToGRPC(fmt.Errorf("some text: %w", class))
			got := rpcstatus.From(theirs)
			if want := class; !errors.Is(got, want) &&
				want != errdefs.ErrConflict && want != errdefs.ErrNotModified { // these two only by their text's end
				t.Errorf("from a foreign server: %v", got)
			}
		})
	}
}

func TestOutermostClassWins(t *testing.T) {
	inner := errdefs.NotFound("no such layer")
	err := errdefs.InvalidArgument("prepare: %w", inner)
	if got := status.Code(rpcstatus.To(err)); got != codes.InvalidArgument {
		t.Errorf("code %v", got)
	}
}

func TestPlainErrorsStayUnknown(t *testing.T) {
	st := rpcstatus.To(errors.New("boom"))
	if status.Code(st) != codes.Unknown {
		t.Errorf("code %v", status.Code(st))
	}
	if got := rpcstatus.From(st); got.Error() != "boom" || errdefs.Class(got) != nil {
		t.Errorf("got %v", got)
	}
}

// TestShortages: a full disk and the like have a class on the other side.
func TestShortages(t *testing.T) {
	err := rpcstatus.From(rpcstatus.To(fmt.Errorf("write blob: %w", syscall.ENOSPC)))
	if errdefs.Class(err) != errdefs.ErrResourceExhausted || err.Error() != "write blob: no space left on device" {
		t.Errorf("got %v of class %v", err, errdefs.Class(err))
	}
}
