package task

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	bootstrapapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/proto"

	"gantry/libctr/core/task"
	"gantry/libctr/core/wire"
)

// maxOutput bounds what a shim binary may print, in bytes; the rest is dropped.
const maxOutput = 1 << 20

// command describes one run of a shim binary. Protocol: runtime v2, "start",
// "delete" and "-info".
type command struct {
	binary string
	dir    string
	args   []string
	env    []string
	stdin  []byte
}

// bootstrapParams is what a shim reads from its stdin at start.
func (m *Manager) bootstrapParams(b *bundle, options typeurl.Any) ([]byte, error) {
	params := &bootstrapapi.BootstrapParams{
		InstanceID:             b.id,
		Namespace:              b.ns,
		ContainerdVersion:      m.cfg.Version,
		ContainerdTtrpcAddress: m.cfg.TTRPCAddress,
		ContainerdGrpcAddress:  m.cfg.Address,
		ContainerdBinary:       m.cfg.Binary,
	}
	if m.cfg.Debug {
		params.LogLevel = bootstrapapi.LogLevel_LOG_LEVEL_DEBUG
	}
	if m.cfg.SocketDir != "" {
		params.SocketDir = proto.String(m.cfg.SocketDir)
	}
	if options != nil {
		if err := params.AddExtension(wire.Any(options)); err != nil {
			return nil, err
		}
	}
	return proto.Marshal(params)
}

// deleteCommand cleans up after a shim that is gone.
func (m *Manager) deleteCommand(b *bundle, binary string) command {
	return m.shimCommand(b, binary, "delete", "-bundle", b.path)
}

func (m *Manager) shimCommand(b *bundle, binary, action string, more ...string) command {
	args := []string{"-namespace", b.ns, "-address", m.cfg.Address, "-publish-binary", m.cfg.Binary, "-id", b.id}
	args = append(args, more...)
	if m.cfg.Debug {
		args = append(args, "-debug")
	}
	return command{
		binary: binary,
		dir:    b.path,
		args:   append(args, action),
		env: append(shimEnv(os.Environ()),
			"TTRPC_ADDRESS="+m.cfg.TTRPCAddress, "GRPC_ADDRESS="+m.cfg.Address, "NAMESPACE="+b.ns,
			"MAX_SHIM_VERSION=2", "GOMAXPROCS=2"),
	}
}

// ours are variables that say something about this process, not about a shim: a
// runtime would notify this process's service manager, for one.
var ours = []string{
	"NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC",
	"TTRPC_ADDRESS", "GRPC_ADDRESS", "NAMESPACE", "MAX_SHIM_VERSION", "GOMAXPROCS", "GOTRACEBACK",
}

func shimEnv(env []string) []string {
	return slices.DeleteFunc(slices.Clone(env), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains(ours, name)
	})
}

// run executes the command to its end and returns its stdout. What it printed is
// the text of a failure. A background process that it leaves behind with its
// output open is not waited for.
func (c command) run(ctx context.Context) ([]byte, error) {
	cmd := exec.CommandContext(ctx, c.binary, c.args...)
	cmd.Dir, cmd.Env, cmd.Stdin = c.dir, c.env, bytes.NewReader(c.stdin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	var stdout, stderr bounded
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if err == nil {
		return stdout.Bytes(), nil
	}
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	if text := failureText(stdout.Bytes(), stderr.Bytes()); text != "" {
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	return nil, err
}

// failureText joins what a failed shim printed.
func failureText(stdout, stderr []byte) string {
	parts := slices.DeleteFunc([]string{
		string(bytes.TrimSpace(stdout)), string(bytes.TrimSpace(stderr))}, func(s string) bool { return s == "" })
	return strings.ToValidUTF8(strings.Join(parts, ": "), "�")
}

// bounded keeps the first maxOutput bytes and takes the rest without an error,
// so that the writer does not fail.
type bounded struct{ buf bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	b.buf.Write(p[:min(len(p), maxOutput-b.buf.Len())])
	return len(p), nil
}

func (b *bounded) Bytes() []byte { return b.buf.Bytes() }

// runDelete asks the shim binary to remove what is left of a task whose shim is
// gone, and returns how the task's init ended according to it.
func (m *Manager) runDelete(ctx context.Context, b *bundle, binary string) (task.Exit, error) {
	out, err := m.deleteCommand(b, binary).run(ctx)
	if err != nil {
		return task.Exit{}, fmt.Errorf("%s delete: %w", binary, err)
	}
	var r taskapi.DeleteResponse
	if err := proto.Unmarshal(out, &r); err != nil {
		return task.Exit{}, fmt.Errorf("%s delete: answer: %w", binary, err)
	}
	return exitFromProto(r.GetPid(), r.GetExitStatus(), r.GetExitedAt()), nil
}
