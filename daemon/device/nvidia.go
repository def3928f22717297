package device

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// nvidiaHook has the vendor's hook bring devices and libraries into the container.
func nvidiaHook(s *specs.Spec, path string, capabilities []string) {
	var own []string
	for _, c := range capabilities {
		if slices.Contains(nvidiaCapabilities, c) {
			own = append(own, c)
		}
	}
	if own != nil {
		s.Process.Env = append(s.Process.Env, "NVIDIA_DRIVER_CAPABILITIES="+strings.Join(own, ","))
	}
	if s.Hooks == nil {
		s.Hooks = &specs.Hooks{}
	}
	s.Hooks.Prestart = append(s.Hooks.Prestart, specs.Hook{ //nolint:staticcheck // the one that the program knows
		Path: path, Args: []string{filepath.Base(path), "prestart"}, Env: os.Environ(),
	})
}
