package core

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"gantry/libctr/fsck"
	"gantry/libctr/server"
)

// check is "core check": it looks at the directories of a core that does not run, and
// fails when something is wrong.
func check(ctx context.Context, f flags, args []string, to io.Writer) error {
	var deep, asJSON bool
	set := newSet("core check")
	set.StringVar(&f.root, "root", f.root, "Root directory of what outlives a boot")
	set.StringVar(&f.state, "state", f.state, "Directory of what does not")
	set.BoolVar(&deep, "deep", false, "Read every blob and compare its digest")
	set.BoolVar(&asJSON, "json", false, "Write each finding as JSON")
	if err := set.Parse(args); err != nil {
		return asHelp(set, err)
	}
	cfg, err := f.config(ctx, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	found, err := fsck.Check(ctx, fsck.Options{Root: cfg.Root, State: cfg.State, Deep: deep, Snapshotters: elsewhere(cfg)})
	if err != nil {
		return fmt.Errorf("check: %w", err)
	}
	faults := 0
	for _, one := range found {
		if one.Fault() {
			faults++
		}
		if err := write(to, one, asJSON); err != nil {
			return err
		}
	}
	if faults > 0 {
		return fmt.Errorf("check: %d faults in %s", faults, cfg.Root)
	}
	return nil
}

func write(to io.Writer, one fsck.Finding, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(to).Encode(one)
	}
	_, err := fmt.Fprintln(to, one)
	return err
}

// elsewhere are the snapshotters that the configuration puts in a place of their own.
func elsewhere(cfg server.Config) map[string]string {
	out := map[string]string{}
	for uri, table := range cfg.Plugins {
		name, ok := strings.CutPrefix(uri, "io.containerd.snapshotter.v1.")
		settings, _ := table.(map[string]any)
		if path, _ := settings["root_path"].(string); ok && path != "" {
			out[name] = path
		}
	}
	return out
}
