package httpstatus_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/docker/docker/api/types/filters"

	"gantry/api/errdefs"
	"gantry/router/httpstatus"
)

var table = []struct {
	class error
	code  int
	back  error // the class that the status alone tells
}{
	{errdefs.ErrInvalidArgument, 400, errdefs.ErrInvalidArgument},
	{errdefs.ErrOutOfRange, 400, errdefs.ErrInvalidArgument},
	{errdefs.ErrFailedPrecondition, 400, errdefs.ErrInvalidArgument},
	{errdefs.ErrUnauthenticated, 401, errdefs.ErrUnauthenticated},
	{errdefs.ErrPermissionDenied, 403, errdefs.ErrPermissionDenied},
	{errdefs.ErrNotFound, 404, errdefs.ErrNotFound},
	{errdefs.ErrAlreadyExists, 409, errdefs.ErrConflict},
	{errdefs.ErrConflict, 409, errdefs.ErrConflict},
	{errdefs.ErrNotModified, 304, errdefs.ErrNotModified},
	{errdefs.ErrNotImplemented, 501, errdefs.ErrNotImplemented},
	{errdefs.ErrUnavailable, 503, errdefs.ErrUnavailable},
	{errdefs.ErrInternal, 500, errdefs.ErrInternal},
	{errdefs.ErrDataLoss, 500, errdefs.ErrInternal},
	{errdefs.ErrResourceExhausted, 500, errdefs.ErrInternal},
	{errdefs.ErrAborted, 500, errdefs.ErrInternal},
}

func TestClassToStatusAndBack(t *testing.T) {
	for _, row := range table {
		t.Run(row.class.Error(), func(t *testing.T) {
			err := fmt.Errorf("start web: %w", errdefs.WithClass(row.class, errors.New("no")))
			if got := httpstatus.Of(err); got != row.code {
				t.Errorf("status %d, want %d", got, row.code)
			}
			if got := httpstatus.Class(row.code); got != row.back {
				t.Errorf("back: %v, want %v", got, row.back)
			}
		})
	}
}

func TestOutermostClassWins(t *testing.T) {
	inner := errdefs.NotFound("no such volume")
	outer := errdefs.WithClass(errdefs.ErrConflict, fmt.Errorf("create: %w", inner))
	if got := httpstatus.Of(outer); got != http.StatusConflict {
		t.Errorf("status %d", got)
	}
}

func TestUnclassed(t *testing.T) {
	if got := httpstatus.Of(errors.New("disk on fire")); got != 500 {
		t.Errorf("status %d", got)
	}
	if httpstatus.Class(418) != nil {
		t.Error("418 has a class")
	}
}

// Docker's filter errors carry a marker method instead of a class.
func TestDockerMarker(t *testing.T) {
	err := filters.NewArgs(filters.Arg("x", "y")).Validate(map[string]bool{})
	if got := httpstatus.Of(err); got != http.StatusBadRequest {
		t.Errorf("status %d for %v", got, err)
	}
}
