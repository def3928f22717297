package exec_test

import (
	"context"
	"encoding/json"
	"io"
	"testing"

	"github.com/docker/docker/api/types/backend"
	containertypes "github.com/docker/docker/api/types/container"

	apicontainer "gantry/api/container"
	"gantry/api/errdefs"
	"gantry/internal/testutil/transcript"
	"gantry/router/exec"
	"gantry/router/internal/routertest"
)

const execID = "b7a5c1e2d3f4a5b6c7d8e9f0a1b2c3d4e5f60718293a4b5c6d7e8f9001122334"

// world is a backend with one exec in a container "web".
type world struct{}

func (world) Create(_ context.Context, ref string, o containertypes.ExecOptions) (string, error) {
	switch ref {
	case "web":
		return execID, nil
	case "old":
		return "", errdefs.Conflict("container old is not running")
	case "echo":
		b, _ := json.Marshal(o)
		return "", errdefs.InvalidArgument("%s", b)
	}
	return "", errdefs.NotFound("No such container: %s", ref)
}

func (world) Ready(_ context.Context, id string) error {
	switch id {
	case "gone":
		return errdefs.NotFound("No such exec instance: gone")
	case "paused":
		return errdefs.Conflict("Container web is paused, unpause the container before exec")
	}
	return nil
}

// Start echoes stdin. The ids are the cases: "late" fails after its stream is open,
// "bad" and "again" before.
func (world) Start(_ context.Context, id string, o apicontainer.ExecStartOptions) error {
	switch id {
	case "again":
		return errdefs.Conflict("exec command again has already run")
	case "bad":
		return errdefs.InvalidArgument(`OCI runtime exec failed: exec failed: unable to start container process: exec: "nope": executable file not found in $PATH: unknown`)
	case "echo":
		return errdefs.NotFound("detach %v tty %v size %v", o.Detach, o.Tty, o.ConsoleSize)
	}
	if o.Detach {
		return nil
	}
	c, err := o.Open(!o.Tty)
	if err != nil {
		return err
	}
	defer c.Close()
	if id == "late" {
		_, _ = io.WriteString(c.Stderr, "half\n")
		return nil
	}
	in, err := io.ReadAll(c.Stdin)
	if err != nil {
		return err
	}
	_, _ = c.Stdout.Write(in)
	return nil
}

func (world) Resize(_ context.Context, id string, h, w uint32) error {
	if id != execID {
		return errdefs.NotFound("No such exec instance: %s", id)
	}
	return nil
}

func (world) Inspect(_ context.Context, id string) (*backend.ExecInspect, error) {
	if id != execID {
		return nil, errdefs.NotFound("No such exec instance: %s", id)
	}
	code := 3
	return &backend.ExecInspect{
		ID: execID, ContainerID: "web", ExitCode: &code, OpenStdout: true,
		ProcessConfig: &backend.ExecProcessConfig{Entrypoint: "ls", Arguments: []string{"-l"}, Privileged: new(bool)},
	}, nil
}

func TestTranscripts(t *testing.T) {
	dial := routertest.Serve(t, exec.New(world{}))
	transcript.Run(t, dial, "testdata/*.txt", transcript.Names{"exec": execID})
}
