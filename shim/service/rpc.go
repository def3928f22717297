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
		"State":      Method(api.State),
		"Create":     Method(api.Create),
		"Start":      Method(api.Start),
		"Delete":     Method(api.Delete),
		"Pids":       Method(api.Pids),
		"Pause":      Method(api.Pause),
		"Resume":     Method(api.Resume),
		"Checkpoint": Method(api.Checkpoint),
		"Kill":       Method(api.Kill),
		"Exec":       Method(api.Exec),
		"ResizePty":  Method(api.ResizePty),
		"CloseIO":    Method(api.CloseIO),
		"Update":     Method(api.Update),
		"Wait":       Method(api.Wait),
		"Stats":      Method(api.Stats),
		"Connect":    Method(api.Connect),
		"Shutdown":   Method(api.Shutdown),
	}
}

// Method adapts one call, and sends errors with their class and their text.
func Method[Q, A any](call func(context.Context, *Q) (*A, error)) ttrpc.Method {
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
