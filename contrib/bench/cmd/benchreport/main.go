// Benchreport joins the results of enginebench, runtimebench and floor into one JSON
// document, and renders such a document as Markdown.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"bench/internal/report"
	"bench/internal/stats"
)

func main() {
	var in inputs
	var d report.Document
	flag.StringVar(&in.engine, "engine", "", "JSON of enginebench")
	flag.StringVar(&in.runtime, "runtime", "", "JSON of runtimebench")
	flag.StringVar(&in.core, "core", "", "JSON of corebench")
	flag.StringVar(&in.floor, "floor", "", "output of floor")
	flag.StringVar(&d.Name, "name", "", "name of the run")
	flag.StringVar(&d.Commit, "commit", "", "what was measured")
	flag.StringVar(&d.Command, "command", "make bench", "how it was measured")
	doc := flag.String("json", "", "the document: written when any input is given, else read")
	md := flag.String("markdown", "", "where the Markdown goes; empty for nowhere")
	flag.Parse()
	if err := run(in, d, *doc, *md); err != nil {
		fmt.Fprintln(os.Stderr, "benchreport:", err)
		os.Exit(1)
	}
}

// inputs are paths; an empty one, or one of a file that is not there, is no part of the run.
type inputs struct{ engine, runtime, floor, core string }

func run(in inputs, d report.Document, doc, md string) (err error) {
	if doc == "" {
		return errors.New("-json is needed")
	}
	if in == (inputs{}) {
		err = decode(doc, &d)
	} else {
		err = join(in, &d, doc)
	}
	if err != nil || md == "" {
		return err
	}
	f, err := os.Create(md)
	if err != nil {
		return err
	}
	source, err := filepath.Rel(filepath.Dir(md), doc)
	if err != nil {
		source = doc
	}
	return errors.Join(d.Markdown(f, source), f.Close())
}

// join fills d from the inputs and writes it to path. It goes the way of its reader, so
// that both render the same.
func join(in inputs, d *report.Document, path string) error {
	d.Date = time.Now().UTC().Format(time.DateOnly)
	var err error
	if d.Engine, err = part(in.engine); err != nil {
		return err
	}
	if d.Runtime, err = part(in.runtime); err != nil {
		return err
	}
	if d.Core, err = part(in.core); err != nil {
		return err
	}
	if f, err := os.Open(in.floor); err == nil {
		defer f.Close()
		if d.Floor, err = report.ParseFloor(f); err != nil {
			return err
		}
	}
	raw, err := json.MarshalIndent(d, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(raw, '\n'), 0o644)
}

func part(path string) (*stats.Report, error) {
	if path == "" {
		return nil, nil
	}
	r := new(stats.Report)
	if err := decode(path, r); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, nil
		}
		return nil, err
	}
	return r, nil
}

func decode(path string, into any) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
