// Package bundle reads a bundle's config.json.
package bundle

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// ConfigName is the file's name.
const ConfigName = "config.json"

// maxConfig bounds it in bytes.
const maxConfig = 10 << 20

// config is what of specs.Spec is for Linux. A decoder is made for each type within
// the one that is asked for, which takes far longer than to decode.
type config struct {
	Version     string            `json:"ociVersion"`
	Process     *specs.Process    `json:"process"`
	Root        *specs.Root       `json:"root"`
	Hostname    string            `json:"hostname"`
	Domainname  string            `json:"domainname"`
	Mounts      []specs.Mount     `json:"mounts"`
	Hooks       *specs.Hooks      `json:"hooks"`
	Annotations map[string]string `json:"annotations"`
	Linux       *specs.Linux      `json:"linux"`
}

// Read gives the spec, without what is for other systems, and the file as it is.
// Class: InvalidArgument for what is no spec or too large.
func Read(dir string) (*specs.Spec, []byte, error) {
	f, err := os.Open(filepath.Join(dir, ConfigName))
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxConfig+1))
	if err != nil {
		return nil, nil, err
	}
	if len(raw) > maxConfig {
		return nil, nil, fmt.Errorf("%s has more than %d bytes: %w", f.Name(), maxConfig, errdefs.ErrInvalidArgument)
	}
	spec, err := Parse(raw)
	if err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return spec, raw, nil
}

// Parse reads a spec's JSON.
func Parse(raw []byte) (*specs.Spec, error) {
	var c config
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	return &specs.Spec{
		Version: c.Version, Process: c.Process, Root: c.Root, Hostname: c.Hostname, Domainname: c.Domainname,
		Mounts: c.Mounts, Hooks: c.Hooks, Annotations: c.Annotations, Linux: c.Linux,
	}, nil
}
