package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"

	"gantry/runtime/container"
)

var listCommand = command{
	name: "list", about: "list the containers of this root",
	prepare: func(f *pflag.FlagSet) func(context.Context, *request, []string) error {
		format := formatFlag(f)
		quiet := f.BoolP("quiet", "q", false, "print ids only")
		return func(_ context.Context, r *request, _ []string) error {
			if !*quiet {
				if err := checkFormat(*format); err != nil {
					return err
				}
			}
			states, err := r.describeAll()
			if err != nil {
				return err
			}
			return printList(r.stdout, states, *format, *quiet)
		}
	},
}

// describeAll leaves out, and names on standard error, what can't be described.
func (r *request) describeAll() ([]*containerState, error) {
	entries, err := os.ReadDir(r.global.root)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	states := []*containerState{}
	for _, e := range entries {
		if !e.IsDir() || container.IsPassing(e.Name()) {
			continue
		}
		c, err := r.load(e.Name())
		if err != nil {
			fmt.Fprintf(r.stderr, "load container %s: %v\n", e.Name(), err)
			continue
		}
		s, err := r.describe(c)
		if err != nil {
			fmt.Fprintf(r.stderr, "state for %s: %v\n", e.Name(), err)
			continue
		}
		states = append(states, s)
	}
	return states, nil
}

func formatFlag(f *pflag.FlagSet) *string {
	return f.StringP("format", "f", "table", "table or json")
}

func checkFormat(s string) error {
	if s != "table" && s != "json" {
		return errors.New("invalid format option")
	}
	return nil
}

func printList(out io.Writer, states []*containerState, format string, quiet bool) error {
	if quiet {
		for _, s := range states {
			fmt.Fprintln(out, s.ID)
		}
		return nil
	}
	if format == "json" {
		return json.NewEncoder(out).Encode(states)
	}
	w := tabwriter.NewWriter(out, 12, 1, 3, ' ', 0)
	fmt.Fprint(w, "ID\tPID\tSTATUS\tBUNDLE\tCREATED\tOWNER\n")
	for _, s := range states {
		fmt.Fprintf(w, "%s\t%d\t%s\t%s\t%s\t%s\n", s.ID, s.Pid, s.Status, s.Bundle, s.Created.Format(time.RFC3339Nano), s.Owner)
	}
	return w.Flush()
}
