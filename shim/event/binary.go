package event

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os/exec"

	eventsapi "github.com/containerd/containerd/api/services/ttrpc/events/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/ttrpc"
	"google.golang.org/protobuf/proto"
)

// sender takes events to the engine, one at a time.
type sender interface {
	send(ctx context.Context, e *types.Envelope) error
	// disconnect makes the next send begin anew.
	disconnect()
}

// overTTRPC sends to the engine's ttrpc socket.
type overTTRPC struct {
	address string
	client  *ttrpc.Client
}

func (s *overTTRPC) send(ctx context.Context, e *types.Envelope) error {
	if s.client == nil {
		conn, err := new(net.Dialer).DialContext(ctx, "unix", s.address)
		if err != nil {
			return fmt.Errorf("connect to engine: %w", err)
		}
		s.client = ttrpc.NewClient(conn)
	}
	_, err := eventsapi.NewTTRPCEventsClient(s.client).Forward(ctx, &eventsapi.ForwardRequest{Envelope: e})
	return err
}

func (s *overTTRPC) disconnect() {
	if s.client != nil {
		s.client.Close()
		s.client = nil
	}
}

// Binary is an engine's program whose publish command takes an event on its stdin, an Any,
// for engines that have no ttrpc socket. The event has the time of its arrival.
type Binary struct {
	Path    string
	Address string // of the engine's gRPC socket
	// Run runs what forks, so that no exit is lost; see reaper.Guard.
	Run func(func() error) error
}

// NewBinaryPublisher is NewPublisher by way of a program.
func NewBinaryPublisher(b Binary, namespace string, log *slog.Logger) *Publisher {
	return newPublisher(&throughBinary{b}, namespace, log)
}

type throughBinary struct{ Binary }

func (s *throughBinary) send(ctx context.Context, e *types.Envelope) error {
	body, err := proto.Marshal(e.Event)
	if err != nil {
		return err
	}
	return s.Run(func() error {
		cmd := exec.CommandContext(ctx, s.Path, "--address", s.Address, "publish", "--topic", e.Topic, "--namespace", e.Namespace)
		cmd.Stdin = bytes.NewReader(body)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s publish: %w: %.200s", s.Path, err, out)
		}
		return nil
	})
}

func (*throughBinary) disconnect() {}
