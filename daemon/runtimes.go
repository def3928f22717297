package daemon

import (
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	"github.com/containerd/typeurl/v2"

	"gantry/daemon/config"
	"gantry/daemon/container"
	"gantry/libctr/client"
)

// builtin is the shim of ours, with the runtime as its library.
const builtin = "io.containerd.gantry.v2"

// runtimes maps the names that a container may ask for to shims. The names of runc are
// the built-in runtime's unless the configuration says otherwise.
func runtimes(c *config.Config, core client.Abilities) (map[string]container.Runtime, error) {
	all := map[string]container.Runtime{}
	own, err := ownShim(c, core, "")
	if err != nil {
		return nil, err
	}
	for _, name := range config.BuiltinRuntimes {
		all[name] = own
	}
	for name, r := range c.Runtimes {
		if r.Path == "" {
			all[name], err = shim(c, core, name, r)
		} else {
			all[name], err = program(c, core, name, r)
		}
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// ownShim is our shim with an OCI runtime's program, "" for the one in it. On a core that
// can't run it runc's takes its place, and keeps its state where it always does.
func ownShim(c *config.Config, core client.Abilities, program string) (container.Runtime, error) {
	o := &runcoptions.Options{Root: filepath.Join(c.ExecRoot, "runtime"), BinaryName: program, SystemdCgroup: c.SystemdCgroup()}
	rt := container.Runtime{Name: core.Shim, Path: core.ShimPath}
	if core.Shim == "" {
		o.Root = ""
		rt = container.Runtime{Name: runcShim, Foreign: true, TopReadOnly: true}
	}
	var err error
	rt.Options, err = typeurl.MarshalAny(o)
	return rt, err
}

// program is a runtime that the configuration names by the path of its program.
func program(c *config.Config, core client.Abilities, name string, r config.Runtime) (container.Runtime, error) {
	path, err := withArgs(c, name, r)
	if err != nil {
		return container.Runtime{}, err
	}
	rt, err := ownShim(c, core, path)
	rt.TopReadOnly = rt.TopReadOnly || !mountsRecursively(path)
	return rt, err
}

// shim is a runtime that the configuration names by its type.
func shim(c *config.Config, core client.Abilities, name string, r config.Runtime) (container.Runtime, error) {
	options, err := shimOptions(r, c.SystemdCgroup())
	if err != nil {
		return container.Runtime{}, fmt.Errorf("runtime %s: %w", name, err)
	}
	rt := container.Runtime{Name: r.Type, Options: options}
	if r.Type == builtin && core.Shim != "" {
		rt.Name, rt.Path = core.Shim, core.ShimPath
		return rt, nil
	}
	rt.Foreign, rt.TopReadOnly = true, true
	if core.Shim != "" && r.Type == runcShim {
		// Its name may be ours in the core; who configures it means the one that is installed.
		rt.Path = "/usr/bin/containerd-shim-runc-v2"
		if path, err := exec.LookPath(filepath.Base(rt.Path)); err == nil {
			rt.Path = path
		}
	}
	return rt, nil
}

// withArgs returns a program that runs the runtime with its runtimeArgs; a shim can be
// told a path only. A container may be about to run what is there, so it is replaced.
func withArgs(c *config.Config, name string, r config.Runtime) (string, error) {
	if len(r.Args) == 0 {
		return r.Path, nil
	}
	dir := filepath.Join(c.ExecRoot, "runtimes")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	words := make([]string, 0, len(r.Args)+1)
	for _, w := range append([]string{r.Path}, r.Args...) {
		words = append(words, "'"+strings.ReplaceAll(w, "'", `'\''`)+"'")
	}
	path := filepath.Join(dir, url.PathEscape(name))
	script := "#!/bin/sh\nexec " + strings.Join(words, " ") + " \"$@\"\n"
	if err := os.WriteFile(path+"+", []byte(script), 0o700); err != nil {
		return "", err
	}
	return path, os.Rename(path+"+", path)
}
