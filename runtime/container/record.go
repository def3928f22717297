package container

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/bundle"
	"gantry/runtime/cgroup/systemd"
	"gantry/runtime/intelrdt"
)

const (
	recordName   = "state.json"
	listenerName = "start.sock"
	notifyName   = "notify"
)

// record is state.json: what must be known of a container to go on with it in
// another process.
type record struct {
	ID          string            `json:"id"`
	Pid         int               `json:"init_process_pid"`   // 0 until there is one that waits for its start
	StartTime   uint64            `json:"init_process_start"` // clock ticks since boot, as in /proc/<pid>/stat; tells reused pids apart
	Created     time.Time         `json:"created"`
	Bundle      string            `json:"bundle"`
	Rootfs      string            `json:"rootfs"` // spec.root.path, absolute
	Owner       int               `json:"owner"`  // uid of the one who created it
	Cgroups     map[string]string `json:"cgroup_paths"`
	Scope       *systemd.Unit     `json:"systemd_unit,omitempty"`         // that systemd keeps them as
	Descriptors []string          `json:"external_descriptors,omitempty"` // see Container.Descriptors
	NoPivot     bool              `json:"no_pivot,omitempty"`
	Resctrl     *intelrdt.Group   `json:"resctrl,omitempty"`
	Keyring     bool              `json:"keyring,omitempty"` // has a session keyring of its own
	Config      json.RawMessage   `json:"config"`            // the spec, as bundle.Parse reads it; nil: Spec is encoded
	Spec        *specs.Spec       `json:"-"`                 // with absolute paths: see normal
}

// hasCgroup says whether the container has one; see CreateOptions.Rootless.
func (r *record) hasCgroup() bool { return len(r.Cgroups) > 0 }

// save lets the record appear whole.
func (r *record) save(dir string) error {
	b, err := r.encode()
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	tmp := filepath.Join(dir, recordName+".new")
	if err := os.WriteFile(tmp, b, 0o600); err != nil {
		return fmt.Errorf("write state: %w", err)
	}
	return os.Rename(tmp, filepath.Join(dir, recordName))
}

// encode puts the spec behind the rest without a look at it: that it is JSON is known.
func (r *record) encode() (b []byte, err error) {
	if r.Config == nil {
		if r.Config, err = json.Marshal(r.Spec); err != nil {
			return nil, err
		}
	}
	head := *r
	head.Config = json.RawMessage("0")
	if b, err = json.Marshal(head); err != nil {
		return nil, err
	}
	return append(append(bytes.TrimSuffix(b, []byte("0}")), r.Config...), '}'), nil
}

func loadRecord(root, id string) (r record, err error) {
	if r, err = readRecord(root, id); err != nil {
		return r, err
	}
	if r.Config != nil {
		if r.Spec, err = bundle.Parse(r.Config); err != nil {
			return r, fmt.Errorf("read state of %s: %w", id, err)
		}
	}
	r.Config = nil
	if r.ID != id || r.Spec == nil || r.Spec.Linux == nil || r.Spec.Process == nil || r.Spec.Root == nil || !filepath.IsAbs(r.Bundle) {
		return r, fmt.Errorf("state of %s is damaged: %w", id, errdefs.ErrDataLoss)
	}
	r.Spec = normal(r.Spec, r.Bundle)
	return r, nil
}

// readRecord leaves Config as it is.
func readRecord(root, id string) (r record, err error) {
	b, err := os.ReadFile(filepath.Join(root, id, recordName))
	if errors.Is(err, fs.ErrNotExist) {
		return r, fmt.Errorf("container %s does not exist: %w", id, errdefs.ErrNotFound)
	}
	if err != nil {
		return r, fmt.Errorf("read state of %s: %w", id, err)
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return r, fmt.Errorf("read state of %s: %w", id, err)
	}
	return r, nil
}
