// Package fsck checks the directories of a core that does not run: every record has its
// thing, and every thing its record. It reads only, and repairs nothing.
//
// What a crash leaves (blobs, snapshots, directories and bundles without a record) is found
// too, until the next core has collected it. A name in a record that clients may leave
// without a thing, such as an image's target, is told as Dangling, which is no fault.
package fsck

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"gantry/api/database"
	"gantry/libctr/metadata"
)

// Class says what kind of a finding it is.
type Class string

const (
	Lost     Class = "lost"     // a record without its thing
	Orphan   Class = "orphan"   // a thing without its record
	Wrong    Class = "wrong"    // something that is not as it has to be
	Dangling Class = "dangling" // a name of what is not there, which is allowed
)

// Finding is one thing that was found.
type Finding struct {
	Class     Class  `json:"class"`
	Kind      string `json:"kind"`                // blob, ingest, snapshot, image, container, lease, bundle, database
	Namespace string `json:"namespace,omitempty"` // where there is one
	Name      string `json:"name,omitempty"`      // digest, key, id; a snapshot's has its snapshotter before a colon
	Path      string `json:"path,omitempty"`      // of the file or directory
	Text      string `json:"text"`                // what is the matter
}

func (f Finding) String() string {
	name := f.Name
	if f.Namespace != "" {
		name = f.Namespace + "/" + name
	}
	s := fmt.Sprintf("%s %s %s: %s", f.Class, f.Kind, name, f.Text)
	if f.Path != "" {
		s += " (" + f.Path + ")"
	}
	return s
}

// Fault says whether it is one that a core which was stopped must not have.
func (f Finding) Fault() bool { return f.Class != Dangling }

// Options say what is checked.
type Options struct {
	Root  string // of the core; see libctr/server
	State string // of the core; "" leaves out what is of the boot
	Deep  bool   // read all blobs, and compare their digests
	// Content and Snapshotters are directories of plugins that are not in their place
	// below Root; a snapshotter by its name.
	Content      string
	Snapshotters map[string]string
}

// Check looks at everything. An error is of what could not be looked at: a core runs
// (database.ErrInUse), or ctx has ended. A database that is damaged is a finding, and what
// it would tell is left out.
func Check(ctx context.Context, o Options) ([]Finding, error) {
	c := &checker{Options: o}
	records, ok, err := c.records(c.plugin(o.Root, "io.containerd.metadata.v1.bolt", "meta.db"))
	if err != nil || !ok {
		return c.sorted(), err
	}
	boot, err := c.bootRecords(records)
	if err != nil {
		return c.sorted(), err
	}
	snapshotters, err := c.snapshotters(records)
	if err != nil {
		return c.sorted(), err
	}
	c.namespaces(records, boot)
	if err := c.content(ctx, records); err != nil {
		return c.sorted(), err
	}
	c.ingests(records, boot)
	for _, s := range snapshotters {
		s.check()
	}
	c.bundles(records, boot)
	return c.sorted(), ctx.Err()
}

type checker struct {
	Options
	found []Finding
}

func (c *checker) find(f Finding) { c.found = append(c.found, f) }

func (c *checker) sorted() []Finding {
	slices.SortFunc(c.found, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Namespace, b.Namespace),
			strings.Compare(a.Name, b.Name), strings.Compare(string(a.Class), string(b.Class)), strings.Compare(a.Text, b.Text))
	})
	return c.found
}

func (c *checker) plugin(root string, elem ...string) string {
	return filepath.Join(append([]string{root}, elem...)...)
}

// records reads a file of records; ok is false when it tells nothing, and that is told.
func (c *checker) records(path string) (in metadata.Inspection, ok bool, err error) {
	in, err = metadata.Inspect(path)
	if ok, err := c.readable(path, err); !ok {
		return in, false, err
	}
	c.database(path, in.Version, in.Newest, in.Wrong)
	for _, ns := range in.Namespaces {
		for _, u := range ns.Unreadable {
			c.find(Finding{Class: Wrong, Kind: "database", Namespace: ns.Name, Path: path, Text: u.Error()})
		}
	}
	return in, true, nil
}

// readable sorts out what is a finding, and what an error.
func (c *checker) readable(path string, err error) (bool, error) {
	switch {
	case err == nil:
		return true, nil
	case errors.Is(err, database.ErrInUse):
		return false, err
	case errors.Is(err, fs.ErrNotExist):
		c.find(Finding{Class: Lost, Kind: "database", Path: path, Text: "is not there"})
	default:
		c.find(Finding{Class: Wrong, Kind: "database", Path: path, Text: err.Error()})
	}
	return false, nil
}

func (c *checker) database(path string, version, newest int, wrong []error) {
	if version > newest {
		c.find(Finding{Class: Wrong, Kind: "database", Path: path,
			Text: fmt.Sprintf("its schema version is %d, and this core's is %d", version, newest)})
	}
	for _, w := range wrong {
		c.find(Finding{Class: Wrong, Kind: "database", Path: path, Text: w.Error()})
	}
}

// bootRecords reads the file of the boot, if it is of this one.
func (c *checker) bootRecords(durable metadata.Inspection) (metadata.Inspection, error) {
	if c.State == "" {
		return metadata.Inspection{}, nil
	}
	path := c.plugin(c.State, "io.containerd.metadata.v1.bolt", "boot.db")
	in, err := metadata.Inspect(path)
	if errors.Is(err, fs.ErrNotExist) {
		return metadata.Inspection{}, nil // none since the boot
	}
	if ok, err := c.readable(path, err); !ok {
		return metadata.Inspection{}, err
	}
	if now, err := database.BootID(); err != nil || in.Boot != now {
		return metadata.Inspection{}, err
	}
	c.database(path, in.Version, in.Newest, in.Wrong)
	for _, ns := range in.Namespaces {
		for _, u := range ns.Unreadable {
			c.find(Finding{Class: Wrong, Kind: "database", Namespace: ns.Name, Path: path, Text: u.Error()})
		}
		if len(ns.Containers) > 0 && !slices.ContainsFunc(durable.Namespaces, func(d metadata.Namespace) bool { return d.Name == ns.Name }) {
			c.find(Finding{Class: Wrong, Kind: "database", Namespace: ns.Name, Path: path,
				Text: "has containers in a namespace that is not durable"})
		}
	}
	return in, nil
}
