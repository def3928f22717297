package boot

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/shim/exitfile"
)

// killed is the exit status of a container whose shim died: 128+KILL.
const killed = 128 + uint32(unix.SIGKILL)

// deleteTimeout bounds the clean-up; engines give it about as long.
const deleteTimeout = 20 * time.Second

// delete cleans up what a shim that is gone has left of its container. It is
// also called after a good end, when nothing is left.
func (a args) delete(stdout io.Writer) error {
	bundle, err := a.dir()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), deleteTimeout)
	defer cancel()
	if err := deleteContainer(ctx, a.id, bundle); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	failpoint.Hit("shim/boot.delete.container")
	removeDeadSocket(bundle)
	failpoint.Hit("shim/boot.delete.socket")
	raw, err := proto.Marshal(exitOf(bundle))
	if err != nil {
		return err
	}
	_, err = stdout.Write(raw)
	return err
}

// exitOf is how the init has ended: as its shim has noted, or else by our kill.
func exitOf(bundle string) *taskapi.DeleteResponse {
	if e, ok := exitfile.Read(bundle); ok {
		return &taskapi.DeleteResponse{Pid: uint32(e.Pid), ExitStatus: uint32(e.Status), ExitedAt: timestamppb.New(e.At)}
	}
	return &taskapi.DeleteResponse{
		Pid: uint32(readPid(filepath.Join(bundle, "init.pid"))), ExitStatus: killed, ExitedAt: timestamppb.Now(),
	}
}

func deleteContainer(ctx context.Context, id, bundle string) error {
	c, err := loadChoice(bundle)
	if err != nil {
		return err
	}
	if c.Socket != "" {
		os.Remove(c.Socket)
	}
	failpoint.Hit("shim/boot.delete.stream-removed")
	container, err := c.runtime(nil).Load(id, bundle)
	if err != nil {
		return err
	}
	return container.Delete(ctx, true)
}

// removeDeadSocket removes the shim's socket unless the rest of its group is still served there.
func removeDeadSocket(bundle string) {
	address := addressOf(bundle)
	if path := strings.TrimPrefix(address, "unix://"); address != "" && !served(path) {
		os.Remove(path)
	}
}

// addressOf is where the bundle's shim serves or has served, "" when it is not known.
func addressOf(bundle string) string {
	if raw, err := os.ReadFile(filepath.Join(bundle, "address")); err == nil {
		return string(raw)
	}
	c, err := loadChoice(bundle)
	if err != nil {
		return ""
	}
	return c.Address
}

// dyingTimeout is how long the last threads of a killed shim may hold its socket.
const dyingTimeout = 300 * time.Millisecond

// served says whether a shim lives behind the socket. One that is being killed
// still takes connections, and then drops them; a living one waits for a request.
func served(path string) bool {
	c, err := net.DialTimeout("unix", path, dyingTimeout)
	if err != nil {
		return errors.Is(err, os.ErrDeadlineExceeded) // it lives, and is behind
	}
	defer c.Close()
	c.SetReadDeadline(time.Now().Add(dyingTimeout))
	_, err = c.Read(make([]byte, 1))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

func readPid(path string) int {
	raw, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
	return pid
}
