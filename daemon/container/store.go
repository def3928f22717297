package container

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	bolt "go.etcd.io/bbolt"

	"gantry/api/database"

	"gantry/api/failpoint"
)

// store keeps containers on disk, in two databases:
//
//	durable, synced   container/records/<id> : JSON Record
//	                  container/states/<id>  : JSON State, as of the last write of a record,
//	                                           or of the last flush
//	run time, not     container/boot         : the boot id that the states are of
//	  synced          container/states/<id>  : JSON State, the present one
//
// Create, remove, rename and update write the durable one before they are answered.
// Every other change goes to the run-time one, and within a second to the durable one:
// a power cut may lose that second's exit codes, times and counts, nothing else. After
// a boot the run-time states are void.
type store struct {
	durable, runtime database.Records
}

var (
	bucket  = []byte("container")
	records = []byte("records")
	states  = []byte("states")
	bootKey = []byte("boot")
)

func openStore(durable, runtime database.Records, boot string) (*store, error) {
	st := &store{durable: durable, runtime: runtime}
	if boot == "" {
		boot = bootID()
	}
	err := durable.Update(func(tx *bolt.Tx) error { return makeBuckets(tx, records, states) })
	if err == nil {
		err = runtime.Update(func(tx *bolt.Tx) error { return forBoot(tx, boot) })
	}
	if err != nil {
		return nil, fmt.Errorf("open container store: %w", err)
	}
	return st, nil
}

func makeBuckets(tx *bolt.Tx, names ...[]byte) error {
	b, err := tx.CreateBucketIfNotExists(bucket)
	for _, n := range names {
		if err == nil {
			_, err = b.CreateBucketIfNotExists(n)
		}
	}
	return err
}

// forBoot drops states of another boot.
func forBoot(tx *bolt.Tx, boot string) error {
	if b := tx.Bucket(bucket); b != nil && string(b.Get(bootKey)) != boot {
		if err := tx.DeleteBucket(bucket); err != nil {
			return err
		}
	}
	if err := makeBuckets(tx, states); err != nil {
		return err
	}
	return tx.Bucket(bucket).Put(bootKey, []byte(boot))
}

func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}

// load returns every container; state says whether its state is of this boot.
func (st *store) load() (all []Snapshot, fresh map[string]bool, err error) {
	present := map[string]State{}
	err = st.runtime.View(func(tx *bolt.Tx) error {
		return each(tx.Bucket(bucket).Bucket(states), func(id string, s State) { present[id] = s })
	})
	if err != nil {
		return nil, nil, fmt.Errorf("load container states: %w", err)
	}
	fresh = map[string]bool{}
	err = st.durable.View(func(tx *bolt.Tx) error {
		kept := map[string]State{}
		if err := each(tx.Bucket(bucket).Bucket(states), func(id string, s State) { kept[id] = s }); err != nil {
			return err
		}
		return each(tx.Bucket(bucket).Bucket(records), func(id string, r Record) {
			s, ok := present[id]
			if !ok {
				s = kept[id]
			}
			fresh[id] = ok
			all = append(all, Snapshot{Record: &r, State: s})
		})
	})
	if err != nil {
		return nil, nil, fmt.Errorf("load containers: %w", err)
	}
	return all, fresh, nil
}

func each[T any](b *bolt.Bucket, f func(id string, v T)) error {
	return b.ForEach(func(k, raw []byte) error {
		var v T
		if err := json.Unmarshal(raw, &v); err != nil {
			return fmt.Errorf("%s: %w", k, err)
		}
		f(string(k), v)
		return nil
	})
}

// put writes record and state durably.
func (st *store) put(s *Snapshot) error {
	r, err := json.Marshal(s.Record)
	if err != nil {
		return err
	}
	state, err := json.Marshal(s.State)
	if err != nil {
		return err
	}
	err = st.durable.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucket)
		if err := b.Bucket(records).Put([]byte(s.ID), r); err != nil {
			return err
		}
		return b.Bucket(states).Put([]byte(s.ID), state)
	})
	failpoint.Hit("daemon/container.store.put")
	if err == nil {
		err = st.putState(s.ID, state)
	}
	return wrap("save container "+s.ID, err)
}

// setState writes the present state, unsynced.
func (st *store) setState(s *Snapshot) error {
	raw, err := json.Marshal(s.State)
	if err == nil {
		err = st.putState(s.ID, raw)
	}
	return wrap("save state of container "+s.ID, err)
}

func (st *store) putState(id string, raw []byte) error {
	return st.runtime.Update(func(tx *bolt.Tx) error {
		return tx.Bucket(bucket).Bucket(states).Put([]byte(id), raw)
	})
}

// flush makes the given states durable, in one transaction. Those of containers whose
// record has gone are passed over.
func (st *store) flush(all []*Snapshot) error {
	return wrap("flush container states", st.durable.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucket)
		for _, s := range all {
			if b.Bucket(records).Get([]byte(s.ID)) == nil {
				continue
			}
			raw, err := json.Marshal(s.State)
			if err != nil {
				return err
			}
			if err := b.Bucket(states).Put([]byte(s.ID), raw); err != nil {
				return err
			}
		}
		return nil
	}))
}

// remove forgets a container durably.
func (st *store) remove(id string) error {
	err := st.durable.Update(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucket)
		if err := b.Bucket(records).Delete([]byte(id)); err != nil {
			return err
		}
		return b.Bucket(states).Delete([]byte(id))
	})
	failpoint.Hit("daemon/container.store.removed")
	if err == nil {
		err = st.runtime.Update(func(tx *bolt.Tx) error {
			return tx.Bucket(bucket).Bucket(states).Delete([]byte(id))
		})
	}
	return wrap("remove container "+id, err)
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
