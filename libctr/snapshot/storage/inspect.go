package storage

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/bbolt"

	"gantry/api/database"
	"gantry/libctr/core/snapshot"
)

// Inspection is what a snapshotter's directory holds; see Dirs.
type Inspection struct {
	Version, Newest int
	Wrong           []error
	Records         []Record
	Children        []Child
	Unreadable      []error // records that cannot be decoded
	Dirs            []string
}

// Record is a snapshot and the number of its directory.
type Record struct {
	snapshot.Info
	ID uint64
}

// Child is an entry of the index that says which snapshots have children.
type Child struct{ Parent, Key string }

// Inspect reads the records and lists the directories at root, which no process has open,
// without changing anything.
func Inspect(root string) (in Inspection, err error) {
	schema := database.Schema{Bucket: "version", Steps: migrations}
	in.Newest = schema.Newest()
	err = database.Inspect(filepath.Join(root, "metadata.db"), schema, func(tx *bbolt.Tx, version int, wrong []error) error {
		in.Version, in.Wrong = version, wrong
		return in.read(tx)
	})
	if err != nil {
		return in, err
	}
	entries, err := os.ReadDir(filepath.Join(root, "snapshots"))
	for _, e := range entries {
		in.Dirs = append(in.Dirs, e.Name())
	}
	return in, err
}

func (in *Inspection) read(tx *bbolt.Tx) error {
	snapshots, children := tx.Bucket(bucketSnapshots), tx.Bucket(bucketChildren)
	if snapshots == nil || children == nil {
		return nil
	}
	err := snapshots.ForEach(func(k, v []byte) error {
		var r record
		if err := json.Unmarshal(v, &r); err != nil {
			in.Unreadable = append(in.Unreadable, fmt.Errorf("snapshot %q: %w", k, err))
			return nil
		}
		in.Records = append(in.Records, Record{r.info(string(k)), r.ID})
		return nil
	})
	if err != nil {
		return err
	}
	return children.ForEach(func(k, _ []byte) error {
		parent, key, _ := strings.Cut(string(k), "\x00")
		in.Children = append(in.Children, Child{parent, key})
		return nil
	})
}
