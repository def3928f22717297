package metadata

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"gantry/api/database"
	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/libctr/core/content"
	"gantry/libctr/core/lease"
)

const bucketIngests = "ingests"

// ingestLife is how long an ingest that no lease holds outlives its last write.
const ingestLife = 24 * time.Hour

// ingestRecord is the value of v1/<ns>/ingests/<ref>: only an ingest that was opened
// under a lease has one. It goes with its leases.
type ingestRecord struct {
	// Leases are their ids and when they were made: an id may come again.
	Leases map[string]time.Time `json:"leases,omitempty"`
	Free   bool                 `json:"free,omitempty"` // opened without a lease, too: it also has its 24 hours
}

func (r ingestRecord) has(l lease.Lease) bool {
	at, ok := r.Leases[l.ID]
	return ok && at.Equal(l.CreatedAt)
}

// ingestFile is the file that has the records of ingests: that of the boot, since an
// ingest without its record is one that no lease holds.
func (db *DB) ingestFile() *database.DB {
	if db.boot != nil {
		return db.boot
	}
	return db.bolt
}

// noteIngest records under what an ingest is opened, if that has to be known.
func (db *DB) noteIngest(ctx context.Context, ns, ref string) error {
	l, err := db.leaseOf(ctx, ns)
	if err != nil {
		return err
	}
	var r ingestRecord
	known := false
	err = db.ingestFile().View(func(tx *bbolt.Tx) (err error) {
		known, err = getIngest(tx, ns, ref, &r)
		return err
	})
	if err != nil || l.ID == "" && (!known || r.Free) || l.ID != "" && r.has(l) {
		return err
	}
	return db.ingestFile().Update(func(tx *bbolt.Tx) error {
		var r ingestRecord
		if _, err := getIngest(tx, ns, ref, &r); err != nil {
			return err
		}
		if l.ID == "" {
			r.Free = true
		} else if r.Leases == nil {
			r.Leases = map[string]time.Time{l.ID: l.CreatedAt}
		} else {
			r.Leases[l.ID] = l.CreatedAt
		}
		return putIngest(tx, ns, ref, r)
	})
}

// leaseOf is the lease of ctx, none for the zero value.
func (db *DB) leaseOf(ctx context.Context, ns string) (l lease.Lease, err error) {
	id := lease.From(ctx)
	if id == "" {
		return l, nil
	}
	err = db.view(func(tx *bbolt.Tx) error {
		l, err = getLease(tx, ns, id)
		return err
	})
	return l, err
}

// forgetIngest drops the record of what was committed or aborted.
func (db *DB) forgetIngest(ns, ref string) error {
	known := false
	err := db.ingestFile().View(func(tx *bbolt.Tx) error {
		b := bucket(tx, ns, bucketIngests)
		known = b != nil && b.Get([]byte(ref)) != nil
		return nil
	})
	if err != nil || !known {
		return err
	}
	return db.ingestFile().Update(func(tx *bbolt.Tx) error {
		if b := bucket(tx, ns, bucketIngests); b != nil {
			return b.Delete([]byte(ref))
		}
		return nil
	})
}

// freeIngest takes an ingest from a lease.
func (db *DB) freeIngest(ns, ref, id string) error {
	return db.ingestFile().Update(func(tx *bbolt.Tx) error {
		var r ingestRecord
		if known, err := getIngest(tx, ns, ref, &r); err != nil || !known {
			return err
		}
		delete(r.Leases, id)
		return putIngest(tx, ns, ref, r)
	})
}

// ingestsOf lists the ingests that were opened under a lease.
func (db *DB) ingestsOf(ns string, l lease.Lease) (refs []string, err error) {
	err = db.ingestFile().View(func(tx *bbolt.Tx) error {
		return eachIngest(tx, ns, func(ref string, r ingestRecord) {
			if r.has(l) {
				refs = append(refs, ref)
			}
		})
	})
	return refs, err
}

func getIngest(tx *bbolt.Tx, ns, ref string, r *ingestRecord) (known bool, err error) {
	b := bucket(tx, ns, bucketIngests)
	if b == nil {
		return false, nil
	}
	v := b.Get([]byte(ref))
	if v == nil {
		return false, nil
	}
	if err := json.Unmarshal(v, r); err != nil {
		return false, fmt.Errorf("decode ingest %q: %w", ref, err)
	}
	return true, nil
}

func putIngest(tx *bbolt.Tx, ns, ref string, r ingestRecord) error {
	b, err := makeBucket(tx, ns, bucketIngests)
	if err != nil {
		return err
	}
	v, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return b.Put([]byte(ref), v)
}

func eachIngest(tx *bbolt.Tx, ns string, fn func(ref string, r ingestRecord)) error {
	return each(bucket(tx, ns, bucketIngests), func(ref string, v []byte) error {
		var r ingestRecord
		if err := json.Unmarshal(v, &r); err != nil {
			return fmt.Errorf("decode ingest %q: %w", ref, err)
		}
		fn(ref, r)
		return nil
	})
}

// sweepIngests drops ingests whose leases have all gone, and those that no lease ever
// held and that were not written to for long; and the records of ingests that are not
// there.
func (s *contentStore) sweepIngests(ctx context.Context) error {
	statuses, err := s.backend.ListStatuses(ctx)
	if err != nil {
		return err
	}
	records, err := s.ingestRecords()
	if err != nil {
		return err
	}
	if len(statuses) == 0 && len(records) == 0 {
		return nil
	}
	held, err := s.heldIngests(records)
	if err != nil {
		return err
	}
	there := make(map[string]bool, len(statuses))
	var suspect []string
	for _, st := range statuses {
		there[st.Ref] = true
		if r, known := records[st.Ref]; !held[st.Ref] && s.overdue(st, r, known) {
			suspect = append(suspect, st.Ref)
		}
	}
	for ref := range records {
		if !there[ref] {
			suspect = append(suspect, ref)
		}
	}
	for _, ref := range suspect {
		if err := s.sweepIngest(ctx, ref); err != nil {
			return err
		}
	}
	return nil
}

// sweepIngest looks again at one ingest, in its lane, where no writer can come meanwhile.
func (s *contentStore) sweepIngest(ctx context.Context, ref string) error {
	leave, err := s.db.lanes.enter(ctx, ingestLane(ref))
	if err != nil {
		return err
	}
	defer leave()
	ns, name, _ := strings.Cut(ref, "/")
	if s.written(ref) {
		return nil
	}
	var r ingestRecord
	known := false
	err = s.db.ingestFile().View(func(tx *bbolt.Tx) (err error) {
		known, err = getIngest(tx, ns, name, &r)
		return err
	})
	if err != nil {
		return err
	}
	st, err := s.backend.Status(ctx, ref)
	if errdefs.IsNotFound(err) {
		return s.db.forgetIngest(ns, name)
	}
	if err != nil {
		return err
	}
	held, err := s.heldIngests(map[string]ingestRecord{ref: r})
	if err != nil || held[ref] || !s.overdue(st, r, known) {
		return err
	}
	if err := s.backend.Abort(ctx, ref); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	failpoint.Hit("libctr/metadata.collect.ingest")
	return s.db.forgetIngest(ns, name)
}

func ingestLane(ref string) string { return "ingest\x00" + ref }

// overdue is of an ingest that no lease holds.
func (s *contentStore) overdue(st content.Status, r ingestRecord, known bool) bool {
	return known && !r.Free || s.db.now().Sub(st.UpdatedAt) > ingestLife
}

// ingestRecords are those of all namespaces, by backend ref.
func (s *contentStore) ingestRecords() (map[string]ingestRecord, error) {
	out := make(map[string]ingestRecord)
	err := s.db.ingestFile().View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketV1).ForEachBucket(func(ns []byte) error {
			return eachIngest(tx, string(ns), func(ref string, r ingestRecord) { out[backendRef(string(ns), ref)] = r })
		})
	})
	return out, err
}

// heldIngests lists the backend refs that some lease holds: as its resource, or by the
// ingest's own record.
func (s *contentStore) heldIngests(records map[string]ingestRecord) (map[string]bool, error) {
	out := make(map[string]bool)
	err := s.db.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketV1).ForEachBucket(func(ns []byte) error {
			return eachLease(tx, string(ns), func(l lease.Lease, b *bbolt.Bucket) error {
				for ref, r := range records {
					if strings.HasPrefix(ref, backendRef(string(ns), "")) && r.has(l) {
						out[ref] = true
					}
				}
				return eachResource(b, func(r lease.Resource) {
					if r.Type == typeIngests {
						out[backendRef(string(ns), r.ID)] = true
					}
				})
			})
		})
	})
	return out, err
}

// begin keeps an ingest from the collector until end, and records it.
func (s *contentStore) begin(ctx context.Context, ns, ref string) error {
	leave, err := s.db.lanes.enter(ctx, ingestLane(backendRef(ns, ref)))
	if err != nil {
		return err
	}
	defer leave()
	if err := s.db.noteIngest(ctx, ns, ref); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[string]int)
	}
	s.open[backendRef(ns, ref)]++
	return nil
}

func (s *contentStore) end(ns, ref string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := backendRef(ns, ref)
	if s.open[key]--; s.open[key] == 0 {
		delete(s.open, key)
	}
}

// written says whether the backend's ingest has a writer.
func (s *contentStore) written(ref string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open[ref] > 0
}
