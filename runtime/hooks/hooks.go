package hooks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/hop"
)

// Options says where hooks run. The zero value is the runtime's namespaces and
// the caller's working directory.
type Options struct {
	Name       string      // what the list is called in errors, such as "createRuntime"
	Dir        string      // working directory; with Namespaces, inside them
	Namespaces *Namespaces // nil: the runtime's own

	// Spawn runs the hook instead of this package, as leader of a process group, and
	// returns the caller's own child. It blocks until execve.
	Spawn func(ctx context.Context, h specs.Hook, stdin, stdout *os.File) (pid int, pidfd *os.File, err error)
}

// Namespaces are those of a container.
type Namespaces struct {
	Init  *os.File // pidfd of the container's init; stays the caller's
	Flags uint64   // CLONE_NEW* of the namespaces that differ from the runtime's

	// Unprivileged: we may join no pid namespace; the hook does, once it is root of
	// the container's user namespace.
	Unprivileged bool
}

// Error is a hook that failed.
type Error struct {
	Name   string // Options.Name
	Index  int    // in the list
	Path   string
	Output string // the end of what the hook printed
	Err    error  // context.DeadlineExceeded when its time was over; otherwise how it ended or why it did not begin
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s hook %d, %s: %v", e.Name, e.Index, e.Path, e.Err)
	if e.Output != "" {
		text += ": " + e.Output
	}
	return strings.TrimPrefix(text, " ")
}

func (e *Error) Unwrap() error { return e.Err }

// Run runs the hooks one after another and stops at the first that fails, with
// an *Error. It blocks until the last one has ended. The end of ctx kills the
// hook that runs.
func Run(ctx context.Context, list []specs.Hook, state specs.State, o Options) error {
	return each(ctx, list, state, o, func(error) bool { return false })
}

// RunAll runs all hooks, also after failures, and joins their *Errors: what
// poststop wants, whose failures must not keep the next ones from running.
func RunAll(ctx context.Context, list []specs.Hook, state specs.State, o Options) error {
	var all []error
	err := each(ctx, list, state, o, func(err error) bool {
		all = append(all, err)
		return true
	})
	return errors.Join(append(all, err)...)
}

func each(ctx context.Context, list []specs.Hook, state specs.State, o Options, goOn func(error) bool) error {
	if len(list) == 0 {
		return nil
	}
	input, err := json.Marshal(state)
	if err != nil {
		return fmt.Errorf("encode state for hooks: %w", err)
	}
	for i, h := range list {
		in, end := hop.Begin(ctx, "run "+o.Name+" hook "+h.Path)
		out, err := runOne(in, h, input, o)
		end()
		if err == nil {
			continue
		}
		err = &Error{Name: o.Name, Index: i, Path: h.Path, Output: out, Err: err}
		if !goOn(err) {
			return err
		}
	}
	return nil
}

func runOne(ctx context.Context, h specs.Hook, input []byte, o Options) (output string, err error) {
	if h.Timeout != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(*h.Timeout)*time.Second)
		defer cancel()
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	io, err := newStdio()
	if err != nil {
		return "", err
	}
	defer io.close()
	c, err := spawn(ctx, h, io, o)
	if err != nil {
		return "", err
	}
	io.begin(input)
	err = c.wait(ctx)
	return io.end(), err
}

func spawn(ctx context.Context, h specs.Hook, io *stdio, o Options) (child, error) {
	if len(h.Args) == 0 {
		h.Args = []string{h.Path}
	}
	switch {
	case o.Spawn != nil:
		pid, pidfd, err := o.Spawn(ctx, h, io.in, io.out)
		return child{pid, pidfd, func() error { return reap(pid) }}, err
	case o.Namespaces != nil:
		return spawnInside(ctx, h, io, o)
	}
	return spawnHere(h, io, o)
}
