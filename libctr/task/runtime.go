package task

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// aliases are runtime names of old whose binaries are gone; the runc shim v2 does
// their work.
var aliases = map[string]string{
	"io.containerd.runtime.v1.linux": "io.containerd.runc.v2",
	"io.containerd.runc.v1":          "io.containerd.runc.v2",
}

// named is what a runtime's name stands for.
func named(aliases map[string]string, runtime string) string {
	if name, ok := aliases[runtime]; ok {
		return name
	}
	return runtime
}

// binaryName returns the shim of a runtime: "io.containerd.runc.v2" is
// "containerd-shim-runc-v2".
func binaryName(runtime string) (string, error) {
	runtime = named(aliases, runtime)
	parts := strings.Split(runtime, ".")
	if len(parts) < 2 || strings.Contains(runtime, "/") {
		return "", fmt.Errorf("invalid runtime name %s, correct runtime name should be either format like `io.containerd.runc.v2` or a full path to the binary", runtime)
	}
	name, version := parts[len(parts)-2], parts[len(parts)-1]
	if name == "" || version == "" {
		return "", fmt.Errorf("invalid runtime name %s: empty part", runtime)
	}
	return "containerd-shim-" + name + "-" + version, nil
}

// resolve finds the shim binary of a runtime, or of the one whose name it stands for here.
func (m *Manager) resolve(runtime string) (string, error) {
	runtime = named(aliases, runtime)
	return resolve(named(m.cfg.Aliases, runtime), m.cfg.ShimDir)
}

// resolve finds the shim binary of a runtime: an absolute path is taken as it
// is, a name is looked for in dir first, then in PATH. Its errors have no class, as
// containerd's: to a client, what is not found would be the container.
func resolve(runtime, dir string) (string, error) {
	if runtime == "" {
		return "", errors.New("no runtime name")
	}
	if filepath.IsAbs(runtime) {
		if _, err := os.Stat(runtime); err != nil {
			return "", fmt.Errorf("invalid custom binary path: %w", err)
		}
		if !executable(runtime) {
			return "", fmt.Errorf("invalid custom binary path: %s is no executable file", runtime)
		}
		return filepath.Clean(runtime), nil
	}
	name, err := binaryName(runtime)
	if err != nil {
		return "", err
	}
	if path := filepath.Join(dir, name); dir != "" && executable(path) {
		return path, nil
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("runtime %q binary not installed %q: %w", runtime, name, os.ErrNotExist)
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", fmt.Errorf("path of runtime %s: %w", runtime, err)
	}
	return path, nil
}

func executable(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular() && st.Mode().Perm()&0o111 != 0
}
