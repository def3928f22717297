package task

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/containerd/typeurl/v2"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/protobuf/proto"

	"gantry/libctr/core/wire"
)

// A shim's start reads stdin in one of two ways. Since containerd 2.3 it is a
// BootstrapParams; before, it was the runtime options, an Any, or nothing. An
// old shim takes the new message for an Any whose type is the task's id; some
// ignore that and some refuse to start. There is no way to ask, so the new one is
// tried first, and a binary that starts with the old one only is remembered.

// file identifies a shim binary until it is replaced.
type file struct {
	path    string
	changed time.Time
	size    int64
}

func identify(path string) (file, error) {
	st, err := os.Stat(path)
	if err != nil {
		return file{}, err
	}
	return file{path, st.ModTime(), st.Size()}, nil
}

// oldShims are the binaries that take runtime options on stdin.
type oldShims struct{ known sync.Map } // of file

// start runs the binary's start command and reads its answer.
func (m *Manager) start(ctx context.Context, b *bundle, binary string, options typeurl.Any) (_ bootstrap, err error) {
	ctx, span := m.tracer.Start(ctx, "launch shim", trace.WithAttributes(attribute.String("binary", binary)))
	defer func() { endSpan(span, err) }()
	id, err := identify(binary)
	if err != nil {
		return bootstrap{}, fmt.Errorf("start failed: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, launchTimeout)
	defer cancel()
	if _, old := m.old.known.Load(id); old {
		return m.startOld(ctx, b, binary, options)
	}
	stdin, err := m.bootstrapParams(b, options)
	if err != nil {
		return bootstrap{}, fmt.Errorf("bootstrap parameters: %w", err)
	}
	boot, err := m.startWith(ctx, b, binary, stdin)
	if err == nil || ctx.Err() != nil {
		return boot, err
	}
	boot, oldErr := m.startOld(ctx, b, binary, options)
	if oldErr == nil {
		m.old.known.Store(id, true)
		return boot, nil
	}
	if misread(err, b.id) {
		err = oldErr
	}
	return bootstrap{}, err
}

// misread says whether a shim's failure is that it took a BootstrapParams for an
// Any; it only chooses which of two texts tells the user more.
func misread(err error, id string) bool {
	return strings.Contains(err.Error(), "type with url "+id+":")
}

func (m *Manager) startOld(ctx context.Context, b *bundle, binary string, options typeurl.Any) (bootstrap, error) {
	var stdin []byte
	if options != nil {
		var err error
		if stdin, err = proto.Marshal(wire.Any(options)); err != nil {
			return bootstrap{}, fmt.Errorf("runtime options: %w", err)
		}
	}
	return m.startWith(ctx, b, binary, stdin)
}

func (m *Manager) startWith(ctx context.Context, b *bundle, binary string, stdin []byte) (bootstrap, error) {
	cmd := m.shimCommand(b, binary, "start")
	cmd.stdin = stdin
	cmd.env = append(cmd.env, m.cfg.ShimEnv...)
	out, err := cmd.run(ctx)
	if err != nil {
		return bootstrap{}, fmt.Errorf("start failed: %w", err)
	}
	boot, err := parseBootstrap(out)
	if err != nil {
		return bootstrap{}, errors.Join(fmt.Errorf("start failed: %w", err), m.afterBadStart(ctx, b, binary))
	}
	return boot, nil
}

// afterBadStart removes what a shim has started whose answer can't be used.
func (m *Manager) afterBadStart(ctx context.Context, b *bundle, binary string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), binaryTimeout)
	defer cancel()
	_, err := m.runDelete(ctx, b, binary)
	return err
}
