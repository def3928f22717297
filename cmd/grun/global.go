package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/moby/sys/userns"
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
	f.SortFlags = false
	f.BoolVar(&g.debug, "debug", false, "log more")
	f.StringVar(&g.logFile, "log", "", "file to append the log to; standard error if none is given")
	f.StringVar(&g.logFormat, "log-format", "text", "text or json")
	f.StringVar(&g.root, "root", defaultRoot(ownCaller()), "directory of the containers' states, which should not outlive a boot")
	f.StringVar(&g.criu, "criu", "criu", "not used: criu is looked up in $PATH")
	f.BoolVar(&g.systemdCgroup, "systemd-cgroup", false, "let systemd make the cgroups; cgroupsPath is slice:prefix:name")
	f.StringVar(&g.rootless, "rootless", "auto", "true, false or auto: tolerate cgroups that may not be written")
	f.BoolVarP(&g.version, "version", "v", false, "print the version")
	f.MarkHidden("criu")
	return f
}

// caller is what the default root depends on.
type caller struct {
	uid        int
	userns     bool   // in a user namespace that is not the host's
	name       string // $USER
	runtimeDir string // $XDG_RUNTIME_DIR
}

func ownCaller() caller {
	return caller{os.Geteuid(), userns.RunningInUserNS(), os.Getenv("USER"), os.Getenv("XDG_RUNTIME_DIR")}
}

// defaultRoot is in the user's own runtime directory, unless the user is the
// host's root, or root of a user namespace by name too.
func defaultRoot(c caller) string {
	if c.runtimeDir != "" && (c.uid != 0 || c.userns && c.name != "root") {
		return filepath.Join(c.runtimeDir, "grun")
	}
	return "/run/grun"
}

// check completes the global flags; given is whether the root is the caller's.
func (g *globals) check(given bool) error {
	if _, err := strconv.ParseBool(g.rootless); err != nil && g.rootless != "" && !strings.EqualFold(g.rootless, "auto") {
		return fmt.Errorf("--rootless: %q is neither true nor false nor auto", g.rootless)
	}
	root, err := filepath.Abs(g.root)
	if err != nil {
		return fmt.Errorf("--root: %w", err)
	}
	if root == "/" {
		return errors.New("Option --root argument should not be set to /") //nolint:staticcheck // runc's words
	}
	if !given && root != "/run/grun" {
		if err := keepRoot(root); err != nil {
			return err
		}
	}
	g.root = root
	return nil
}

// keepRoot makes the root in a user's runtime directory; its sticky bit keeps it
// from being cleaned up, as the XDG base directory specification has it.
func keepRoot(root string) error {
	if err := os.MkdirAll(root, 0o700); err != nil {
		return fmt.Errorf("the path in $XDG_RUNTIME_DIR must be writable by the user: %w", err)
	}
	if err := os.Chmod(root, 0o700|os.ModeSticky); err != nil {
		return fmt.Errorf("check the permissions of the path in $XDG_RUNTIME_DIR: %w", err)
	}
	return nil
}

func printVersion(w io.Writer) {
	fmt.Fprintf(w, "grun version %s\ncommit: %s\nspec: %s\ngo: %s\n", version.Version, version.Commit, specs.Version, runtime.Version())
}
