package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/pflag"

	_ "gantry/cmd/grun/first"
)

func main() {
	os.Exit(execute(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
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
	var f failure
	if errors.As(err, &f) {
		return f.status
	}
	return 1
}

// exitStatus is how the container's process ended; it is no failure of ours.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// failure is an error with an exit status other than 1.
type failure struct {
	status int
	error
}

func (f failure) Unwrap() error { return f.error }

// request is one call of grun.
type request struct {
	global                globals
	stdin, stdout, stderr *os.File
	log                   *logger
}

// command is one of grun's commands.
type command struct {
	name, args, about string
	text              string // further help
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

func (r *request) dispatch(ctx context.Context, words []string) error {
	flags := r.global.flags()
	args, err := parse(flags, words, true)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		usage(r.stdout, flags)
		return nil
	case err != nil:
		fmt.Fprintf(r.stdout, "Incorrect Usage. %v\n\n", err)
		usage(r.stdout, flags)
		return err
	case r.global.version:
		printVersion(r.stdout)
		return nil
	}
	if err := r.global.check(flags.Changed("root")); err != nil {
		return err
	}
	if err := r.log.configure(r.global.logFile, r.global.logFormat, r.global.debug); err != nil {
		return err
	}
	if len(args) == 0 {
		usage(r.stdout, flags)
		return nil
	}
	if args[0] == "help" || args[0] == "h" {
		return r.help(flags, args[1:])
	}
	c, err := find(args[0])
	if err != nil {
		return err
	}
	return c.run(ctx, r, args[1:])
}

func find(name string) (command, error) {
	for _, c := range commands() {
		if c.name == name {
			return c, nil
		}
	}
	return command{}, failure{3, fmt.Errorf("No help topic for '%s'", name)} //nolint:staticcheck // runc's words
}

func (r *request) help(global *pflag.FlagSet, args []string) error {
	if len(args) == 0 {
		usage(r.stdout, global)
		return nil
	}
	c, err := find(args[0])
	if err != nil {
		return err
	}
	flags, _ := c.flags()
	c.help(r.stdout, flags)
	return nil
}

// flags declares the command's flags, and gives what runs once they are set.
func (c command) flags() (*pflag.FlagSet, func(context.Context, *request, []string) error) {
	flags := pflag.NewFlagSet(c.name, pflag.ContinueOnError)
	flags.SortFlags = false
	return flags, c.prepare(flags)
}

func (c command) run(ctx context.Context, r *request, words []string) error {
	flags, run := c.flags()
	args, err := parse(flags, words, c.strict)
	switch {
	case errors.Is(err, pflag.ErrHelp):
		c.help(r.stdout, flags)
		return nil
	case err != nil:
		fmt.Fprintf(r.stdout, "Incorrect Usage: %v\n\n", err)
	default:
		if err = c.count(len(args)); err == nil {
			return run(ctx, r, args)
		}
		fmt.Fprint(r.stdout, "Incorrect Usage.\n\n")
	}
	c.help(r.stdout, flags)
	return err
}

// count checks the number of arguments.
func (c command) count(n int) error {
	switch {
	case c.max == c.min && n != c.min:
		return fmt.Errorf("%s: %q requires exactly %d argument(s)", os.Args[0], c.name, c.min)
	case n < c.min:
		return fmt.Errorf("%s: %q requires a minimum of %d argument(s)", os.Args[0], c.name, c.min)
	case c.max >= 0 && n > c.max:
		return fmt.Errorf("%s: %q requires a maximum of %d argument(s)", os.Args[0], c.name, c.max)
	}
	return nil
}
