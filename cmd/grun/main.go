package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/pflag"

	"gantry/api/selfexe"
)

func main() {
	if clones(os.Args[1:]) {
		if err := selfexe.Ensure(); err != nil {
			fmt.Fprintln(os.Stderr, "grun:", err)
			os.Exit(1)
		}
	}
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// clones says whether a command line may clone a process of a container, which
// could then reach our executable. It may be wrong in the harmless direction.
func clones(args []string) bool {
	return slices.ContainsFunc(args, func(a string) bool {
		return a == "create" || a == "run" || a == "exec" || a == "start"
	})
}

// execute runs one command line and returns the exit status.
func execute(ctx context.Context, args []string, stdin, stdout, stderr *os.File) int {
	r := &request{stdin: stdin, stdout: stdout, stderr: stderr, log: newLogger(stderr)}
	err := r.dispatch(ctx, args)
	defer r.log.close()
	var status exitStatus
	switch {
	case err == nil:
		return 0
	case errors.As(err, &status):
		return int(status)
	}
	r.log.fatal(err)
	return 1
}

// exitStatus is how the container's process ended; it is no failure of ours.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// request is one call of grun.
type request struct {
	global                globals
	stdin, stdout, stderr *os.File
	log                   *logger
}

// command is one of grun's commands.
type command struct {
	name, args, about string
	// prepare declares flags and returns what runs once they are parsed.
	prepare func(f *pflag.FlagSet) func(ctx context.Context, r *request, args []string) error
	min     int  // arguments
	max     int  // -1: any number
	strict  bool // flags end at the first argument, which belongs to someone else
}

func commands() []command {
	return []command{
		checkpointCommand("checkpoint"), createCommand, deleteCommand, eventsCommand, execCommand, featuresCommand,
		killCommand, listCommand, pauseCommand, planCommand, psCommand, checkpointCommand("restore"),
		resumeCommand, runCommand, specCommand, startCommand, stateCommand, updateCommand,
	}
}

func (r *request) dispatch(ctx context.Context, args []string) error {
	flags := r.global.flags()
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			usage(r.stdout, flags)
			return nil
		}
		return err
	}
	if r.global.version {
		printVersion(r.stdout)
		return nil
	}
	if err := r.global.check(); err != nil {
		return err
	}
	if err := r.log.configure(r.global.logFile, r.global.logFormat, r.global.debug); err != nil {
		return err
	}
	args = flags.Args()
	if len(args) == 0 || args[0] == "help" {
		usage(r.stdout, flags)
		return nil
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(ctx, r, args[1:])
		}
	}
	return fmt.Errorf("no command %q", args[0])
}

func (c command) run(ctx context.Context, r *request, args []string) error {
	flags := pflag.NewFlagSet(c.name, pflag.ContinueOnError)
	flags.SetInterspersed(!c.strict)
	flags.SetOutput(io.Discard)
	run := c.prepare(flags)
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, pflag.ErrHelp) {
			fmt.Fprintf(r.stdout, "grun %s - %s\n\nusage: grun %s [flags] %s\n\n%s", c.name, c.about, c.name, c.args, flags.FlagUsages())
			return nil
		}
		return fmt.Errorf("%s: %w", c.name, err)
	}
	n := flags.NArg()
	switch {
	case c.max == c.min && n != c.min:
		return fmt.Errorf("grun: %q requires exactly %d argument(s)", c.name, c.min)
	case n < c.min:
		return fmt.Errorf("grun: %q requires a minimum of %d argument(s)", c.name, c.min)
	case c.max >= 0 && n > c.max:
		return fmt.Errorf("grun: %q requires a maximum of %d argument(s)", c.name, c.max)
	}
	return run(ctx, r, flags.Args())
}

func usage(w io.Writer, flags *pflag.FlagSet) {
	fmt.Fprint(w, "grun - run containers of the OCI runtime specification\n\nusage: grun [global flags] command [flags] [argument...]\n\ncommands:\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-12s %s\n", c.name, c.about)
	}
	fmt.Fprintf(w, "\nglobal flags:\n%s", flags.FlagUsages())
}
