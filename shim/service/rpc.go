package service

import (
	"context"
	"errors"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs/pkg/errgrpc"
	"github.com/containerd/ttrpc"

	"gantry/api/errdefs"
)

// Register serves the task API's versions 2 and 3, whose messages are the same
// on the wire.
func (s *Service) Register(srv *ttrpc.Server) {
	methods := s.methods()
	for _, name := range []string{"containerd.task.v2.Task", "containerd.task.v3.Task"} {
		srv.RegisterService(name, &ttrpc.ServiceDesc{Methods: methods})
	}
}

func (s *Service) methods() map[string]ttrpc.Method {
	var api taskapi.TTRPCTaskService = s
	return map[string]ttrpc.Method{
		"State":      method(api.State),
		"Create":     method(api.Create),
		"Start":      method(api.Start),
		"Delete":     method(api.Delete),
		"Pids":       method(api.Pids),
		"Pause":      method(api.Pause),
		"Resume":     method(api.Resume),
		"Checkpoint": method(api.Checkpoint),
		"Kill":       method(api.Kill),
		"Exec":       method(api.Exec),
		"ResizePty":  method(api.ResizePty),
		"CloseIO":    method(api.CloseIO),
		"Update":     method(api.Update),
		"Wait":       method(api.Wait),
		"Stats":      method(api.Stats),
		"Connect":    method(api.Connect),
		"Shutdown":   method(api.Shutdown),
	}
}

// method adapts one call, and sends errors with their class and their text.
func method[Q, A any](call func(context.Context, *Q) (*A, error)) ttrpc.Method {
	return func(ctx context.Context, decode func(any) error) (any, error) {
		q := new(Q)
		if err := decode(q); err != nil {
			return nil, err
		}
		a, err := call(ctx, q)
		if err != nil {
			return nil, errgrpc.ToGRPC(plain(err))
		}
		return a, nil
	}
}

// plainError is a text and a class and nothing else: errgrpc sends the parts of
// a richer tree once more, and clients print them all.
type plainError struct {
	text  string
	class error
}

func (e plainError) Error() string { return e.text }
func (e plainError) Unwrap() error { return e.class }

func plain(err error) error {
	class := errdefs.Class(err)
	for _, c := range []error{context.Canceled, context.DeadlineExceeded} {
		if class == nil && errors.Is(err, c) {
			class = c
		}
	}
	return plainError{err.Error(), class}
}
