package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/spf13/pflag"

	"gantry/api/version"
)

// globals are the flags before the command.
type globals struct {
	root, logFile, logFormat, rootless, criu string
	debug, systemdCgroup, version            bool
}

func (g *globals) flags() *pflag.FlagSet {
	f := pflag.NewFlagSet("grun", pflag.ContinueOnError)
	f.SetInterspersed(false)
	f.SetOutput(io.Discard)
	f.StringVar(&g.root, "root", defaultRoot(os.Geteuid(), os.Getenv("XDG_RUNTIME_DIR")), "directory of the containers' states")
	f.StringVar(&g.logFile, "log", "", "file to append the log to (default standard error)")
	f.StringVar(&g.logFormat, "log-format", "text", "text or json")
	f.BoolVar(&g.debug, "debug", false, "log more")
	f.BoolVar(&g.systemdCgroup, "systemd-cgroup", false, "let systemd make the cgroups; cgroupsPath is slice:prefix:name")
	f.StringVar(&g.rootless, "rootless", "auto", "true, false or auto: tolerate cgroups that may not be written")
	f.StringVar(&g.criu, "criu", "", "not used")
	f.BoolVarP(&g.version, "version", "v", false, "print the version")
	f.MarkHidden("criu")
	return f
}

func defaultRoot(uid int, runtimeDir string) string {
	if uid != 0 && runtimeDir != "" {
		return filepath.Join(runtimeDir, "grun")
	}
	return "/run/grun"
}

func (g *globals) check() error {
	switch g.rootless {
	case "true", "false", "auto":
	default:
		return fmt.Errorf("--rootless: %q is neither true nor false nor auto", g.rootless)
	}
	root, err := filepath.Abs(g.root)
	if err != nil {
		return fmt.Errorf("--root: %w", err)
	}
	g.root = root
	return nil
}

func printVersion(w io.Writer) {
	fmt.Fprintf(w, "grun version %s\ncommit: %s\nspec: %s\ngo: %s\n", version.Version, version.Commit, specs.Version, runtime.Version())
}
