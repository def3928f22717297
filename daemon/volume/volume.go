// Package volume keeps Docker's local volumes.
//
//	<root>/<name>/_data          the content, mode 0755; a mount when options say so
//	<root>/.removed-<name>-<id>  a volume on its way out
//
// Directories of volumes are 0701, so that only _data is reached, and only by path.
// The records are in the daemon's database, each durable before it is answered:
//
//	bucket "volumes" / <name> : JSON of record
//
// A volume is made directory first, and removed by moving its directory aside, then
// deleting the record, then the content. What a crash leaves in between is put right
// by New: a record whose directory was moved aside gets it back, other directories
// aside are deleted, an empty directory without a record too; one with content stays,
// with a warning.
//
// References (containers that have the volume) and mounts are in memory; the daemon
// restores them from its containers when it starts.
//
// Locks: a volume's lane (one change at a time), then Service.mu, which is never held
// over I/O.
package volume

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/events"
	volumetypes "github.com/docker/docker/api/types/volume"
	"go.etcd.io/bbolt"

	"gantry/api/database"
	"gantry/api/keylock"
)

// Volume is a volume as the API shows it; Mountpoint is its content's directory.
type Volume = volumetypes.Volume

// AnonymousLabel marks volumes that were made without a name.
const AnonymousLabel = "com.docker.volume.anonymous"

// Driver is the only driver there is.
const Driver = "local"

// Publisher takes Docker's events; it never blocks.
type Publisher interface {
	Publish(typ events.Type, action events.Action, actor events.Actor)
}

// record is what is kept of a volume; it never changes.
type record struct {
	Name    string            `json:"name"`
	Labels  map[string]string `json:"labels"`
	Options map[string]string `json:"options"`
	Created time.Time         `json:"created"`
}

// entry is a volume in memory.
type entry struct {
	rec     record
	users   map[string]bool // guarded by Service.mu; who references it
	mounts  map[string]int  // guarded by Service.mu; by user, how often
	mounted bool            // guarded by the lane; the options' mount is there
}

var bucket = []byte("volumes")

// Service implements router/volume.Backend and what containers need of volumes. Safe
// for concurrent use.
type Service struct {
	root   string
	db     database.Records
	events Publisher
	log    *slog.Logger

	lanes keylock.Locks // by name
	// unreadable names the volumes whose record is no use. A new volume of the name takes
	// up the content. Constant once New has returned.
	unreadable map[string]bool

	pruning atomic.Bool

	uid, gid int // of new volumes' content; constant once Own has returned

	mu   sync.Mutex
	vols map[string]*entry // guarded by mu
}

// get returns a volume that is known, or nil.
func (s *Service) get(name string) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.vols[name]
}

// all returns the volumes, by name.
func (s *Service) all() []*entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Collect(maps.Values(s.vols))
	slices.SortFunc(out, func(a, b *entry) int { return strings.Compare(a.rec.Name, b.rec.Name) })
	return out
}

// usersOf returns who references the volume, sorted.
func (s *Service) usersOf(e *entry) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(e.users))
}

func (s *Service) dir(name string) string { return filepath.Join(s.root, name) }

func (s *Service) data(name string) string { return filepath.Join(s.root, name, "_data") }

// view is the volume as it is shown.
func (s *Service) view(r record) *Volume {
	return &Volume{
		Name: r.Name, Driver: Driver, Scope: "local", Mountpoint: s.data(r.Name),
		CreatedAt: r.Created.Format(time.RFC3339),
		Labels:    maps.Clone(r.Labels), Options: maps.Clone(r.Options),
	}
}

func (s *Service) save(r record) error {
	value, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Put([]byte(r.Name), value) })
}

func (s *Service) forget(name string) error {
	return s.db.Update(func(tx *bbolt.Tx) error { return tx.Bucket(bucket).Delete([]byte(name)) })
}

func (s *Service) publish(action events.Action, name string, attrs map[string]string) {
	s.events.Publish(events.VolumeEventType, action, events.Actor{ID: name, Attributes: attrs})
}

// lock takes the lane of a volume.
func (s *Service) lock(ctx context.Context, name string) (func(), error) {
	return s.lanes.Lock(ctx, name)
}
