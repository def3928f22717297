package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
)

var psCommand = command{
	name: "ps", args: "<container-id>", about: "list the processes of a container", min: 1, max: -1, strict: true,
	prepare: func(f *pflag.FlagSet) func(context.Context, *request, []string) error {
		format := formatFlag(f)
		return func(_ context.Context, r *request, args []string) error { return ps(r, args, *format) }
	},
}

func ps(r *request, args []string, format string) error {
	if err := checkFormat(format); err != nil {
		return err
	}
	if len(args) > 1 && format == "table" {
		return errors.New("options of ps are not supported, the table is our own")
	}
	c, err := r.load(args[0])
	if err != nil {
		return err
	}
	pids, err := c.Pids()
	if err != nil {
		return err
	}
	if format == "json" {
		if pids == nil {
			pids = []int{}
		}
		return json.NewEncoder(r.stdout).Encode(pids)
	}
	var rows []procRow
	for _, pid := range pids {
		if row, err := readProc("/proc", pid); err == nil { // else it is gone
			rows = append(rows, row)
		}
	}
	return printProcs(r.stdout, rows)
}

func printProcs(out io.Writer, rows []procRow) error {
	w := tabwriter.NewWriter(out, 0, 1, 2, ' ', 0)
	fmt.Fprint(w, "UID\tPID\tPPID\tSTIME\tTIME\tCMD\n")
	for _, p := range rows {
		fmt.Fprintf(w, "%s\t%d\t%d\t%s\t%s\t%s\n", p.owner, p.pid, p.ppid, p.started.Format("15:04:05"), hms(p.cpu), p.command)
	}
	return w.Flush()
}

func hms(d time.Duration) string {
	s := int(d.Seconds())
	return fmt.Sprintf("%02d:%02d:%02d", s/3600, s/60%60, s%60)
}
