// Package httpstatus is the one table from an error's class to its HTTP status.
package httpstatus

import (
	"context"
	"errors"
	"net/http"

	cerrdefs "github.com/containerd/errdefs"

	"gantry/api/errdefs"
)

// status follows dockerd 28.5. Conflict, AlreadyExists and FailedPrecondition share
// one code in gRPC, and are told apart by their class.
var status = map[error]int{
	errdefs.ErrInvalidArgument:    http.StatusBadRequest,
	errdefs.ErrOutOfRange:         http.StatusBadRequest,
	errdefs.ErrFailedPrecondition: http.StatusBadRequest,
	errdefs.ErrUnauthenticated:    http.StatusUnauthorized,
	errdefs.ErrPermissionDenied:   http.StatusForbidden,
	errdefs.ErrNotFound:           http.StatusNotFound,
	errdefs.ErrAlreadyExists:      http.StatusConflict,
	errdefs.ErrConflict:           http.StatusConflict,
	errdefs.ErrNotModified:        http.StatusNotModified,
	errdefs.ErrNotImplemented:     http.StatusNotImplemented,
	errdefs.ErrUnavailable:        http.StatusServiceUnavailable,
	errdefs.ErrInternal:           http.StatusInternalServerError,
	errdefs.ErrDataLoss:           http.StatusInternalServerError,
	errdefs.ErrResourceExhausted:  http.StatusInternalServerError,
	errdefs.ErrAborted:            http.StatusInternalServerError,
}

// Of returns the status of err by its outermost class; 500 when it has none.
func Of(err error) int {
	class := errdefs.Class(err)
	if class == nil {
		// Errors of Docker's own packages carry their class as a marker method.
		class = cerrdefs.Resolve(err)
	}
	if code, ok := status[class]; ok {
		return code
	}
	return http.StatusInternalServerError
}

// Class returns a class whose status is code, nil when no class has it. Where several
// classes share a status, the plainest of them is returned.
func Class(code int) error {
	switch code {
	case http.StatusBadRequest:
		return errdefs.ErrInvalidArgument
	case http.StatusConflict:
		return errdefs.ErrConflict
	case http.StatusInternalServerError:
		return errdefs.ErrInternal
	}
	for class, c := range status {
		if c == code {
			return class
		}
	}
	return nil
}

// Cancelled says whether err only tells that the request was given up.
func Cancelled(err error) bool {
	return errors.Is(err, context.Canceled)
}
