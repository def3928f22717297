package boot

import (
	"cmp"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/containerd/containerd/api/types/runc/options"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/shim/builtin"
	"gantry/shim/process"
	"gantry/shim/runc"
)

// choice is which runtime runs a container, and how. It is kept in the bundle's
// runtime.json, for delete.
type choice struct {
	// Binary is an OCI runtime's; "" is the built-in one.
	Binary string `json:"binary,omitempty"`
	// Root is the runtime's state directory.
	Root          string `json:"root"`
	SystemdCgroup bool   `json:"systemdCgroup,omitempty"`
	NoPivot       bool   `json:"noPivot,omitempty"`
	NoNewKeyring  bool   `json:"noNewKeyring,omitempty"`
	// IoUID and IoGID own the pipes of processes.
	IoUID uint32 `json:"ioUid,omitempty"`
	IoGID uint32 `json:"ioGid,omitempty"`
	// ShimCgroup is where this shim is to be; "" leaves it where it was started.
	ShimCgroup string `json:"shimCgroup,omitempty"`
	// Socket is the stream socket, "" for none.
	Socket string `json:"socket,omitempty"`
	// Address is the shim's, unix://….
	Address string `json:"address,omitempty"`
}

const choiceFile = "runtime.json"

// named returns the OCI runtime that the shim's own name asks for, "" for the
// built-in one: as containerd-shim-gantry-crun-v2 (runtime
// io.containerd.gantry-crun.v2) it runs crun.
func named(argv0 string) string {
	name, ok := strings.CutPrefix(filepath.Base(argv0), "containerd-shim-gantry-")
	if !ok {
		return ""
	}
	name, _ = strings.CutSuffix(name, "-v2")
	if name == "v2" {
		return ""
	}
	return name
}

// choose reads the task's options, containerd's for runc or none.
func choose(any *anypb.Any, namespace, bundle string) (choice, error) {
	c := choice{Binary: named(os.Args[0])}
	if any != nil && len(any.Value) > 0 {
		o := new(options.Options)
		if any.TypeUrl != string(o.ProtoReflect().Descriptor().FullName()) {
			return c, errdefs.InvalidArgument("unknown runtime options %q", any.TypeUrl)
		}
		if err := proto.Unmarshal(any.Value, o); err != nil {
			return c, errdefs.InvalidArgument("runtime options: %w", err)
		}
		c.Binary = cmp.Or(o.BinaryName, c.Binary)
		c.IoUID, c.IoGID, c.ShimCgroup = o.IoUid, o.IoGid, o.ShimCgroup
		c.Root, c.SystemdCgroup, c.NoPivot, c.NoNewKeyring = o.Root, o.SystemdCgroup, o.NoPivotRoot, o.NoNewKeyring
	}
	switch {
	case c.Root != "":
		c.Root = filepath.Join(c.Root, namespace)
	case c.Binary != "":
		c.Root = filepath.Join("/run/containerd/runc", namespace) // where its users look
	default:
		c.Root = filepath.Join(bundle, "runtime") // goes with the bundle
	}
	return c, nil
}

func (c choice) runtime(oomScoreAdj *int) process.Runtime {
	if c.IoUID == 0 && c.IoGID == 0 {
		return c.plain(oomScoreAdj)
	}
	return owned{c.plain(oomScoreAdj), int(c.IoUID), int(c.IoGID)}
}

func (c choice) plain(oomScoreAdj *int) process.Runtime {
	if c.Binary != "" {
		return &runc.Runtime{
			Binary: c.Binary, Root: c.Root,
			SystemdCgroup: c.SystemdCgroup, NoPivot: c.NoPivot, NoNewKeyring: c.NoNewKeyring,
		}
	}
	return &builtin.Runtime{
		Root: c.Root, OOMScoreAdj: oomScoreAdj,
		SystemdCgroup: c.SystemdCgroup, NoPivot: c.NoPivot, NoNewKeyring: c.NoNewKeyring,
	}
}

func (c choice) save(bundle string) error {
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(bundle, choiceFile), string(raw))
}

// loadChoice reads what save wrote; ErrNotFound when nothing was ever created.
func loadChoice(bundle string) (c choice, err error) {
	raw, err := os.ReadFile(filepath.Join(bundle, choiceFile))
	if errors.Is(err, os.ErrNotExist) {
		return c, errdefs.WithClass(errdefs.ErrNotFound, err)
	}
	if err != nil {
		return c, err
	}
	return c, json.Unmarshal(raw, &c)
}
