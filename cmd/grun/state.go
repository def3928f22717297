package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"gantry/runtime/container"
)

// statePaused is runc's addition to the specification's states.
const statePaused specs.ContainerState = "paused"

// containerState is what state and list print: the specification's state and
// runc's additions.
type containerState struct {
	Version     string               `json:"ociVersion"`
	ID          string               `json:"id"`
	Pid         int                  `json:"pid"` // 0 when stopped
	Status      specs.ContainerState `json:"status"`
	Bundle      string               `json:"bundle"`
	Rootfs      string               `json:"rootfs"`
	Created     time.Time            `json:"created"`
	Annotations map[string]string    `json:"annotations,omitempty"`
	Owner       string               `json:"owner"` // of the state directory
}

var stateCommand = command{
	name: "state", args: "<container-id>", about: "print a container's state as JSON", min: 1, max: 1,
	prepare: func(*pflag.FlagSet) func(context.Context, *request, []string) error {
		return func(_ context.Context, r *request, args []string) error {
			c, err := r.load(args[0])
			if err != nil {
				return err
			}
			s, err := r.describe(c)
			if err != nil {
				return err
			}
			s.Owner = "" // list alone tells it, as with runc
			return printJSON(r.stdout, s)
		}
	},
}

func (r *request) describe(c *container.Container) (*containerState, error) {
	s, err := c.State()
	if err != nil {
		return nil, err
	}
	return &containerState{
		Version: s.Version, ID: s.ID, Pid: s.Pid, Status: s.Status, Bundle: s.Bundle,
		Rootfs: rootOf(s.Bundle), Created: c.Created().UTC(), Annotations: s.Annotations,
		Owner: ownerOf(filepath.Join(r.global.root, s.ID)),
	}, nil
}

// rootOf is the root that a bundle names, absolute, or "" when it can't be read.
func rootOf(bundle string) string {
	var spec struct{ Root *specs.Root }
	if readJSON(filepath.Join(bundle, configName), nil, &spec) != nil || spec.Root == nil {
		return ""
	}
	if filepath.IsAbs(spec.Root.Path) {
		return filepath.Clean(spec.Root.Path)
	}
	return filepath.Join(bundle, spec.Root.Path)
}

// ownerOf is the name of a directory's owner, or its number with a "#".
func ownerOf(dir string) string {
	var st unix.Stat_t
	if unix.Stat(dir, &st) != nil {
		return ""
	}
	id := strconv.FormatUint(uint64(st.Uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "#" + id
}

func printJSON(w io.Writer, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s\n", b)
	return err
}

func killProcess(pidfd *os.File) { unix.PidfdSendSignal(int(pidfd.Fd()), unix.SIGKILL, nil, 0) }
