package task

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	bootstrapapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"google.golang.org/protobuf/proto"

	"gantry/api/errdefs"
)

// bootstrap says how a shim is spoken to. Its JSON is the bundle's
// bootstrap.json, the same as containerd's.
type bootstrap struct {
	Version  int    `json:"version"` // of the task API: 2 or 3
	Address  string `json:"address"`
	Protocol string `json:"protocol"` // "ttrpc" or "grpc"
	// OneTask is of our own shim: it ends by itself when its task is deleted.
	OneTask bool `json:"oneTask,omitempty"`
	// Group is of our own shim too, when it serves a group of containers.
	Group string `json:"group,omitempty"`
	// Joined is of a task in a shim that somebody else ends: a sandbox's.
	Joined bool `json:"joined,omitempty"`
	// Sandbox is of a shim that was launched for a sandbox, and has no task of its name.
	Sandbox bool `json:"sandbox,omitempty"`
}

// service is the task API's name in the version that the shim speaks.
func (b bootstrap) service() string { return fmt.Sprintf("containerd.task.v%d.Task", b.Version) }

// parseBootstrap reads what a shim prints when it has started: a protobuf
// BootstrapResult, JSON, or the bare address of a version 2 shim.
func parseBootstrap(out []byte) (bootstrap, error) {
	var b bootstrap
	text := bytes.TrimSpace(out)
	switch {
	case len(text) == 0:
		return b, errors.New("shim printed no address")
	case isProto(out):
		var r bootstrapapi.BootstrapResult
		if err := proto.Unmarshal(out, &r); err != nil {
			return b, fmt.Errorf("shim's answer: %w", err)
		}
		b = bootstrap{Version: int(r.GetVersion()), Address: r.GetAddress(), Protocol: r.GetProtocol()}
	case text[0] == '{':
		if err := json.Unmarshal(text, &b); err != nil {
			return b, fmt.Errorf("shim's answer: %w", err)
		}
	default:
		b = bootstrap{Version: 2, Address: string(text), Protocol: protocolTTRPC}
	}
	return b, b.validate()
}

// isProto tells a BootstrapResult by its first byte: the tag of one of its
// fields, none of which begins a JSON object or an address.
func isProto(out []byte) bool {
	switch out[0] {
	case 0x08, 0x12, 0x1a: // version, address, protocol
		return true
	}
	return false
}

// validate completes what was left out and refuses what can't be spoken to. A gRPC shim
// may give a path where others give unix://PATH.
func (b *bootstrap) validate() error {
	b.Protocol = strings.ToLower(b.Protocol)
	if b.Protocol == "" {
		b.Protocol = protocolTTRPC
	}
	if b.Protocol == protocolGRPC && filepath.IsAbs(b.Address) {
		b.Address = "unix://" + b.Address
	}
	scheme, _, hasScheme := strings.Cut(b.Address, "://")
	switch {
	case b.Version != 2 && b.Version != 3:
		return errdefs.NotImplemented("unsupported shim version (%d)", b.Version)
	case b.Protocol != protocolTTRPC && b.Protocol != protocolGRPC:
		return errdefs.NotImplemented("unsupported shim protocol %q", b.Protocol)
	case b.Protocol == protocolGRPC && b.Version != 3:
		return errdefs.NotImplemented("unsupported shim version (%d): by grpc only 3 is spoken", b.Version)
	case b.Address == "" || len(b.Address) > 4096 || strings.ContainsAny(b.Address, "\n\r"):
		return errdefs.InvalidArgument("shim's answer %.200q is no address", b.Address)
	case hasScheme && scheme != "unix":
		return errdefs.NotImplemented("unsupported shim address %.200q: only unix sockets are dialled", b.Address)
	}
	return nil
}

// save keeps the parameters for the next start of the core.
func (b bootstrap) save(to *bundle) error {
	data, err := json.Marshal(b)
	if err != nil {
		return err
	}
	return to.writeFile(fileBootstrap, data)
}

// loadBootstrap reads what save wrote; a bundle without it may have the bare
// address file of an older core.
func loadBootstrap(from *bundle) (bootstrap, error) {
	data, err := os.ReadFile(filepath.Join(from.path, fileBootstrap))
	if errors.Is(err, os.ErrNotExist) {
		data, err = os.ReadFile(filepath.Join(from.path, fileAddress))
	}
	if err != nil {
		return bootstrap{}, err
	}
	return parseBootstrap(data)
}
