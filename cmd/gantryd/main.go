// Command gantryd is the engine: the Engine API, Docker's semantics behind it and an
// embedded containerd-compatible core in one process; or, as "gantryd core", that core
// alone. Containers run under shims of their own and do not end with it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/spf13/pflag"

	"gantry/api/version"
	"gantry/cmd/gantryd/core"
	"gantry/daemon/config"
	"gantry/daemon/hostpath"
)

// The first thread stays main's own: it outlives every goroutine, and with one that has
// locked it and gone to a container's namespace it would keep that for ever.
func init() { runtime.LockOSThread() }

func main() {
	hostpath.Main()
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gantryd:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if args, ok := core.Args(os.Args[0], args); ok {
		return core.Main(args)
	}
	in := listenEarly()
	c, err := config.Load(args, os.Stdout)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		return nil
	case err != nil:
		return err
	case c.Version:
		fmt.Printf("Gantry version %s, build %s\n", version.Version, version.Commit)
		return nil
	case c.Validate:
		fmt.Println("configuration OK")
		return nil
	}
	if os.Geteuid() != 0 {
		return errors.New("the engine needs to be started as root")
	}
	// A reader of our output that goes away is no reason to end.
	signal.Ignore(syscall.SIGPIPE)
	syscall.Umask(0o022)
	level := new(slog.LevelVar)
	log := newLog(c, level)
	slog.SetDefault(log)
	for _, w := range c.Warnings {
		log.Warn(w)
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	e, err := newEngine(ctx, c, log)
	if err != nil {
		return err
	}
	return e.serve(ctx, in, &reloader{args: args, level: level, current: c, log: log})
}
