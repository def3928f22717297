package metadata

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/bbolt"

	"gantry/api/database"
	"gantry/api/errdefs"
	"gantry/libctr/core/content"
	"gantry/libctr/core/lease"
)

const bucketIngests = "ingests"

// ingestLife is how long an ingest that no lease holds outlives its last write.
const ingestLife = 24 * time.Hour

// ingestRecord is the value of v1/<ns>/ingests/<ref>: only an ingest that was opened
// under a lease has one. It goes with its leases.
type ingestRecord struct {
	Leases []string `json:"leases,omitempty"`
	Free   bool     `json:"free,omitempty"` // opened without a lease, too: it also has its 24 hours
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
	var r ingestRecord
	known := false
	err := db.ingestFile().View(func(tx *bbolt.Tx) (err error) {
		known, err = getIngest(tx, ns, ref, &r)
		return err
	})
	id := lease.From(ctx)
	if err != nil || id == "" && (!known || r.Free) || id != "" && slices.Contains(r.Leases, id) {
		return err
	}
	return db.ingestFile().Update(func(tx *bbolt.Tx) error {
		var r ingestRecord
		if _, err := getIngest(tx, ns, ref, &r); err != nil {
			return err
		}
		if id == "" {
			r.Free = true
		} else if !slices.Contains(r.Leases, id) {
			r.Leases = append(r.Leases, id)
		}
		return putIngest(tx, ns, ref, r)
	})
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
		r.Leases = slices.DeleteFunc(r.Leases, func(l string) bool { return l == id })
		return putIngest(tx, ns, ref, r)
	})
}

// ingestsOf lists the ingests that were opened under a lease.
func (db *DB) ingestsOf(ns, id string) (refs []string, err error) {
	err = db.ingestFile().View(func(tx *bbolt.Tx) error {
		return eachIngest(tx, ns, func(ref string, r ingestRecord) {
			if slices.Contains(r.Leases, id) {
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
// there. The order of the looks counts: an ingest that was listed is either open at the
// second or has its record at the third.
func (s *contentStore) sweepIngests(ctx context.Context) error {
	statuses, err := s.backend.ListStatuses(ctx)
	if err != nil {
		return err
	}
	open := s.writing()
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
	for _, st := range statuses {
		there[st.Ref] = true
		if held[st.Ref] || open[st.Ref] || !s.overdue(st, records) {
			continue
		}
		if err := s.backend.Abort(ctx, st.Ref); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		there[st.Ref] = false
	}
	for ref := range records {
		if there[ref] || open[ref] {
			continue
		}
		ns, name, _ := strings.Cut(ref, "/")
		if err := s.db.forgetIngest(ns, name); err != nil {
			return err
		}
	}
	return nil
}

// overdue is of an ingest that no lease holds.
func (s *contentStore) overdue(st content.Status, records map[string]ingestRecord) bool {
	if r, leased := records[st.Ref]; leased && !r.Free {
		return true
	}
	return s.db.now().Sub(st.UpdatedAt) > ingestLife
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
	live := make(map[string]bool) // leases, as <ns>/<id>
	err := s.db.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketV1).ForEachBucket(func(ns []byte) error {
			return eachLease(tx, string(ns), func(l lease.Lease, b *bbolt.Bucket) error {
				live[backendRef(string(ns), l.ID)] = true
				return eachResource(b, func(r lease.Resource) {
					if r.Type == typeIngests {
						out[backendRef(string(ns), r.ID)] = true
					}
				})
			})
		})
	})
	for ref, r := range records {
		ns, _, _ := strings.Cut(ref, "/")
		if slices.ContainsFunc(r.Leases, func(id string) bool { return live[backendRef(ns, id)] }) {
			out[ref] = true
		}
	}
	return out, err
}

// begin keeps an ingest from the collector until end.
func (s *contentStore) begin(ref string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[string]int)
	}
	s.open[ref]++
}

func (s *contentStore) end(ref string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open[ref]--; s.open[ref] == 0 {
		delete(s.open, ref)
	}
}

// writing lists the backend refs that have a writer.
func (s *contentStore) writing() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]bool, len(s.open))
	for ref := range s.open {
		out[ref] = true
	}
	return out
}
