// Package rpcstatus carries errors over gRPC and ttrpc without losing their
// class or changing their text. The codes are those of
// github.com/containerd/errdefs/pkg/errgrpc, so that foreign clients and servers
// agree. Three classes share the code FailedPrecondition; Conflict and
// NotModified therefore travel with a status detail that names them, in the form
// that errgrpc itself decodes: a nested status whose message is the class.
package rpcstatus

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gantry/api/errdefs"
)

var codeOf = map[error]codes.Code{
	errdefs.ErrInvalidArgument:    codes.InvalidArgument,
	errdefs.ErrNotFound:           codes.NotFound,
	errdefs.ErrAlreadyExists:      codes.AlreadyExists,
	errdefs.ErrPermissionDenied:   codes.PermissionDenied,
	errdefs.ErrResourceExhausted:  codes.ResourceExhausted,
	errdefs.ErrFailedPrecondition: codes.FailedPrecondition,
	errdefs.ErrConflict:           codes.FailedPrecondition,
	errdefs.ErrNotModified:        codes.FailedPrecondition,
	errdefs.ErrNotImplemented:     codes.Unimplemented,
	errdefs.ErrUnauthenticated:    codes.Unauthenticated,
	errdefs.ErrUnavailable:        codes.Unavailable,
	errdefs.ErrInternal:           codes.Internal,
	errdefs.ErrDataLoss:           codes.DataLoss,
	errdefs.ErrAborted:            codes.Aborted,
	errdefs.ErrOutOfRange:         codes.OutOfRange,
}

// shortages are what the kernel says when there is no more of something: it has no
// other class, and trying again at once does not help.
var shortages = []syscall.Errno{syscall.ENOSPC, syscall.EDQUOT, syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM}

var classOf = classesByCode()

// detailed are the classes that their code alone does not tell.
var detailed = []error{errdefs.ErrConflict, errdefs.ErrNotModified}

func classesByCode() map[codes.Code]error {
	m := map[codes.Code]error{
		codes.Canceled:         context.Canceled,
		codes.DeadlineExceeded: context.DeadlineExceeded,
	}
	for class, code := range codeOf {
		if !slices.Contains(detailed, class) {
			m[code] = class
		}
	}
	return m
}

// To returns err as a status for the wire. An error without a class becomes
// Unknown; one that is a status already is returned as it is; nil stays nil.
func To(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := err.(interface{ GRPCStatus() *status.Status }); ok { //nolint:errorlint // a wrapped one has more text
		return err
	}
	class := errdefs.Class(err)
	st := status.New(codeFor(class, err), err.Error())
	if slices.Contains(detailed, class) {
		if with, e := st.WithDetails(&spb.Status{Code: int32(st.Code()), Message: class.Error()}); e == nil {
			st = with
		}
	}
	return st.Err()
}

func codeFor(class, err error) codes.Code {
	if code, ok := codeOf[class]; ok {
		return code
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return codes.Canceled
	case slices.ContainsFunc(shortages, func(e syscall.Errno) bool { return errors.Is(err, e) }):
		return codes.ResourceExhausted
	}
	if st, ok := status.FromError(err); ok {
		return st.Code()
	}
	return codes.Unknown
}

// From returns the error that a status from the wire stands for: its text, with
// the class added; that of an error without one has none in its text either. Canceled and DeadlineExceeded are the context package's
// errors. What is no status is returned as it is; nil stays nil.
func From(err error) error {
	if err == nil {
		return nil
	}
	st, ok := status.FromError(err)
	if !ok {
		return err
	}
	text := errors.New(unclassed(st))
	if class := classFrom(st); class != nil {
		return errdefs.WithClass(class, text)
	}
	return text
}

// unclassed is the text of a status without what containerd puts after that of an error
// without a class, which would otherwise come with its core and not with ours.
func unclassed(st *status.Status) string {
	if st.Code() != codes.Unknown {
		return st.Message()
	}
	return strings.TrimSuffix(st.Message(), ": unknown")
}

func classFrom(st *status.Status) error {
	for _, d := range st.Details() {
		nested, ok := d.(*spb.Status)
		if !ok {
			continue
		}
		for _, class := range detailed {
			if nested.GetMessage() == class.Error() {
				return class
			}
		}
	}
	return classOf[st.Code()]
}
