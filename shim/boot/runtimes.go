package boot

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"

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
	// CriuWork is where CRIU works on a restore, "" for a directory in the bundle.
	CriuWork string `json:"criuWork,omitempty"`
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

// choose reads the task's options.
func choose(any *anypb.Any, namespace, bundle string) (choice, error) {
	o, err := decodeOptions(any)
	if err != nil {
		return choice{}, err
	}
	c := choice{
		Binary: binaryOf(o), Root: o.Root, SystemdCgroup: o.SystemdCgroup, NoPivot: o.NoPivotRoot, NoNewKeyring: o.NoNewKeyring,
		IoUID: o.IoUid, IoGID: o.IoGid, ShimCgroup: o.ShimCgroup, CriuWork: o.CriuWorkPath,
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
			SystemdCgroup: c.SystemdCgroup, NoPivot: c.NoPivot, NoNewKeyring: c.NoNewKeyring, CriuWork: c.CriuWork,
		}
	}
	return &builtin.Runtime{
		Root: c.Root, OOMScoreAdj: oomScoreAdj,
		SystemdCgroup: c.SystemdCgroup, NoPivot: c.NoPivot, NoNewKeyring: c.NoNewKeyring, CriuWork: c.CriuWork,
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
