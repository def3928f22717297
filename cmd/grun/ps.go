package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/pflag"
)

var psCommand = command{
	name: "ps", args: "<container-id> [ps options]", about: "list the processes of a container", min: 1, max: -1, strict: true,
	text: "The table is what the host's ps prints, with the given options or -ef, less the\nprocesses of others. On a host without ps it is a plain one of our own.",
	prepare: func(f *pflag.FlagSet) func(context.Context, *request, []string) error {
		format := formatFlag(f)
		return func(ctx context.Context, r *request, args []string) error { return ps(ctx, r, args, *format) }
	},
}

func ps(ctx context.Context, r *request, args []string, format string) error {
	c, err := r.load(args[0])
	if err != nil {
		return err
	}
	pids, err := c.Pids()
	if err != nil {
		return err
	}
	if err := checkFormat(format); err != nil {
		return err
	}
	slices.Sort(pids)
	if format == "json" {
		return json.NewEncoder(r.stdout).Encode(append([]int{}, pids...))
	}
	options := args[1:]
	if len(options) == 0 {
		options = []string{"-ef"}
	}
	table, err := exec.CommandContext(ctx, "ps", options...).CombinedOutput()
	switch {
	case errors.Is(err, exec.ErrNotFound) && len(args) == 1:
		return printProcs(r.stdout, procRows(pids))
	case err != nil:
		return fmt.Errorf("%w: %s", err, table)
	}
	return printOwn(r.stdout, table, pids)
}

// printOwn prints the title and those lines of ps's table that are of the processes.
func printOwn(out io.Writer, table []byte, pids []int) error {
	column := -1
	for line := range bytes.Lines(table) {
		fields := strings.Fields(string(line))
		if column < 0 {
			if column = slices.Index(fields, "PID"); column < 0 {
				return errors.New("couldn't find PID field in ps output")
			}
		} else if !ofOne(fields, column, pids) {
			continue
		}
		if _, err := out.Write(line); err != nil {
			return err
		}
	}
	return nil
}

func ofOne(fields []string, column int, pids []int) bool {
	if column >= len(fields) {
		return false
	}
	pid, err := strconv.Atoi(fields[column])
	return err == nil && slices.Contains(pids, pid)
}

func procRows(pids []int) (rows []procRow) {
	for _, pid := range pids {
		if row, err := readProc("/proc", pid); err == nil { // else it is gone
			rows = append(rows, row)
		}
	}
	return rows
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
