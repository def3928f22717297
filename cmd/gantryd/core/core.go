// Package core is "gantryd core": the core alone, as a containerd, with the flags and
// sub-commands of one. The process is also what shims call to publish events, and what
// hooks of containers go through.
package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"gantry/api/version"
)

// What a core has without flags and file: the places of the core in the engine, so
// that the one finds what the other has left. They can't be used by both at a time.
const (
	defaultFile  = "/etc/gantry/core.toml"
	defaultRoot  = "/var/lib/gantry/core"
	defaultState = "/run/gantry/core"
)

// Args says whether a process that was called by that name and with these arguments
// is to be a core, and with which arguments: it is as "gantryd core", by a link of
// the name containerd, and in the one form in which shims call whoever has started
// them, "gantryd --address A publish".
func Args(name string, args []string) ([]string, bool) {
	switch {
	case filepath.Base(name) == "containerd":
		return args, true
	case len(args) > 0 && args[0] == "core":
		return args[1:], true
	case len(args) > 0 && args[0] == "publish",
		len(args) > 1 && strings.HasPrefix(args[0], "--address=") && args[1] == "publish",
		len(args) > 2 && slices.Contains([]string{"--address", "-a"}, args[0]) && args[2] == "publish":
		return args, true
	}
	return nil, false
}

// flags are those of the command itself, before a sub-command's name.
type flags struct {
	file, level, address, root, state string
	fileGiven                         bool
}

// Main runs the command. It is called on the process's first thread, which it keeps.
func Main(args []string) error {
	var (
		f             flags
		help, printed bool
	)
	set := newSet("core")
	set.StringVarP(&f.file, "config", "c", defaultFile, "Path to the configuration file")
	set.StringVarP(&f.level, "log-level", "l", "", "Set the logging level [trace, debug, info, warn, error, fatal, panic]")
	set.StringVarP(&f.address, "address", "a", "", "Address for the core's GRPC server")
	set.StringVar(&f.root, "root", "", "Root directory of what outlives a boot")
	set.StringVar(&f.state, "state", "", "Directory of what does not")
	set.BoolVarP(&help, "help", "h", false, "Show help")
	set.BoolVarP(&printed, "version", "v", false, "Print the version")
	if err := set.Parse(args); err != nil {
		return err
	}
	f.fileGiven = set.Changed("config")
	rest := set.Args()
	switch {
	case printed:
		fmt.Println("gantryd gantry/libctr", version.Version, version.Commit)
		return nil
	case help, len(rest) > 0 && rest[0] == "help":
		usage(os.Stdout, set)
		return nil
	case len(rest) == 0:
		return serve(f)
	}
	ctx := context.Background()
	switch name, args := rest[0], rest[1:]; name {
	case "config":
		return configCommand(ctx, f, args, os.Stdout)
	case "publish":
		return publish(ctx, f.address, args, os.Stdin)
	case "check":
		return check(ctx, f, args, os.Stdout)
	case "oci-hook":
		return hook(args, os.Stdin)
	default:
		return fmt.Errorf("core: no such command: %s", name)
	}
}

// newSet is of flags that end with the first argument that is none.
func newSet(name string) *pflag.FlagSet {
	set := pflag.NewFlagSet(name, pflag.ContinueOnError)
	set.SetInterspersed(false)
	set.SortFlags = false
	set.Usage = func() {}
	return set
}

func usage(to io.Writer, set *pflag.FlagSet) {
	fmt.Fprintf(to, `Usage: gantryd core [flags] [command]

The core alone, as a containerd. Without a command it serves.

Commands:
  config default    write the configuration that there is without a file
  config dump       write the one in force: the file, what it imports, and flags
  config migrate    write the file alone, in the latest version
  publish           publish the event on stdin: --topic, --namespace
  check             compare records with things; the core must not run
  oci-hook          run a hook with what it asks for of the container put in

Flags:
%s`, set.FlagUsages())
}

// asHelp makes a sub-command's request for help no error.
func asHelp(set *pflag.FlagSet, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		fmt.Print(set.FlagUsages())
		return nil
	}
	return err
}
