package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
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
			if err := checkFormat(*format); err != nil {
				return err
			}
			all, err := container.List(r.global.root)
			if err != nil {
				return err
			}
			states := []*containerState{}
			for _, c := range all {
				if s, err := r.describe(c); err == nil {
					states = append(states, s)
				} else { // it may be going right now
					r.log.debugf("container %s: %v", c.ID(), err)
				}
			}
			return printList(r.stdout, states, *format, *quiet)
		}
	},
}

func formatFlag(f *pflag.FlagSet) *string {
	return f.StringP("format", "f", "table", "table or json")
}

func checkFormat(s string) error {
	if s != "table" && s != "json" {
		return fmt.Errorf("invalid format option %q", s)
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
