// Package errdefs gives errors a class that says what a caller can do, without
// touching their text: the text reaches the user's terminal. The classes are
// those of github.com/containerd/errdefs, so that one error crosses HTTP, gRPC
// and ttrpc. Test with errors.Is against that package's Err values, or with the
// Is functions of this one.
package errdefs

import (
	"errors"
	"fmt"

	cerrdefs "github.com/containerd/errdefs"
)

// The classes; see github.com/containerd/errdefs for what each means.
var (
	ErrInvalidArgument    = cerrdefs.ErrInvalidArgument
	ErrNotFound           = cerrdefs.ErrNotFound
	ErrAlreadyExists      = cerrdefs.ErrAlreadyExists
	ErrPermissionDenied   = cerrdefs.ErrPermissionDenied
	ErrResourceExhausted  = cerrdefs.ErrResourceExhausted
	ErrFailedPrecondition = cerrdefs.ErrFailedPrecondition
	ErrConflict           = cerrdefs.ErrConflict
	ErrNotModified        = cerrdefs.ErrNotModified
	ErrNotImplemented     = cerrdefs.ErrNotImplemented
	ErrUnauthenticated    = cerrdefs.ErrUnauthenticated
	ErrUnavailable        = cerrdefs.ErrUnavailable
	ErrInternal           = cerrdefs.ErrInternal
	ErrDataLoss           = cerrdefs.ErrDataLoss
	ErrAborted            = cerrdefs.ErrAborted
	ErrOutOfRange         = cerrdefs.ErrOutOfRange
)

type classed struct {
	class error
	err   error
}

func (e classed) Error() string   { return e.err.Error() }
func (e classed) Unwrap() []error { return []error{e.class, e.err} }

// WithClass returns err with the given class added and its text unchanged; nil stays nil.
// The outermost class wins, see Class.
func WithClass(class, err error) error {
	if err == nil {
		return nil
	}
	return classed{class, err}
}

// Class returns the outermost class of err, one of this package's Err values, or nil.
func Class(err error) error {
	if err == nil {
		return nil
	}
	for _, class := range classes {
		if err == class { //nolint:errorlint // this node itself, its children come below
			return class
		}
	}
	switch e := err.(type) { //nolint:errorlint // walks the tree itself
	case classed:
		return e.class
	case interface{ Unwrap() error }:
		return Class(e.Unwrap())
	case interface{ Unwrap() []error }:
		for _, inner := range e.Unwrap() {
			if class := Class(inner); class != nil {
				return class
			}
		}
		return nil
	}
	for _, class := range classes {
		if errors.Is(err, class) {
			return class
		}
	}
	return nil
}

var classes = []error{
	ErrInvalidArgument, ErrNotFound, ErrAlreadyExists, ErrPermissionDenied, ErrResourceExhausted,
	ErrFailedPrecondition, ErrConflict, ErrNotModified, ErrNotImplemented, ErrUnauthenticated,
	ErrUnavailable, ErrInternal, ErrDataLoss, ErrAborted, ErrOutOfRange,
}

// The constructors below add one class each to a formatted error; %w works as in fmt.Errorf.

func InvalidArgument(format string, a ...any) error {
	return WithClass(ErrInvalidArgument, fmt.Errorf(format, a...))
}
func NotFound(format string, a ...any) error { return WithClass(ErrNotFound, fmt.Errorf(format, a...)) }
func AlreadyExists(format string, a ...any) error {
	return WithClass(ErrAlreadyExists, fmt.Errorf(format, a...))
}
func PermissionDenied(format string, a ...any) error {
	return WithClass(ErrPermissionDenied, fmt.Errorf(format, a...))
}
func Conflict(format string, a ...any) error { return WithClass(ErrConflict, fmt.Errorf(format, a...)) }
func NotModified(format string, a ...any) error {
	return WithClass(ErrNotModified, fmt.Errorf(format, a...))
}
func NotImplemented(format string, a ...any) error {
	return WithClass(ErrNotImplemented, fmt.Errorf(format, a...))
}
func Unauthenticated(format string, a ...any) error {
	return WithClass(ErrUnauthenticated, fmt.Errorf(format, a...))
}
func Unavailable(format string, a ...any) error {
	return WithClass(ErrUnavailable, fmt.Errorf(format, a...))
}
func Internal(format string, a ...any) error { return WithClass(ErrInternal, fmt.Errorf(format, a...)) }
func FailedPrecondition(format string, a ...any) error {
	return WithClass(ErrFailedPrecondition, fmt.Errorf(format, a...))
}
func ResourceExhausted(format string, a ...any) error {
	return WithClass(ErrResourceExhausted, fmt.Errorf(format, a...))
}

// IsNotFound and the rest say whether err has the class anywhere in its tree.
func IsNotFound(err error) bool           { return errors.Is(err, ErrNotFound) }
func IsAlreadyExists(err error) bool      { return errors.Is(err, ErrAlreadyExists) }
func IsInvalidArgument(err error) bool    { return errors.Is(err, ErrInvalidArgument) }
func IsConflict(err error) bool           { return errors.Is(err, ErrConflict) }
func IsNotModified(err error) bool        { return errors.Is(err, ErrNotModified) }
func IsFailedPrecondition(err error) bool { return errors.Is(err, ErrFailedPrecondition) }
func IsNotImplemented(err error) bool     { return errors.Is(err, ErrNotImplemented) }
