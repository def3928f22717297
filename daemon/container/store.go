package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

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
//
// A record that cannot be read is passed over and left as it is, with its directory.
type store struct {
	durable, runtime database.Records
}

// stored is what a store holds.
type stored struct {
	all        []Snapshot
	fresh      map[string]bool  // by id: the state is of this boot
	ahead      map[string]bool  // by id: the durable state is an older one
	unreadable map[string]error // by id: records
}

var (
	bucket  = []byte("container")
	records = []byte("records")
	states  = []byte("states")
	bootKey = []byte("boot")
)

func openStore(durable, runtime database.Records, boot string) (*store, error) {
	st := &store{durable: durable, runtime: runtime}
	var err error
	if boot == "" {
		if boot, err = database.BootID(); err != nil {
			return nil, fmt.Errorf("open container store: %w", err)
		}
	}
	err = durable.Update(func(tx *bolt.Tx) error { return makeBuckets(tx, records, states) })
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

// load returns every container.
func (st *store) load() (stored, error) {
	in := stored{fresh: map[string]bool{}, ahead: map[string]bool{}, unreadable: map[string]error{}}
	present, kept := map[string]State{}, map[string]State{}
	err := st.runtime.View(func(tx *bolt.Tx) error {
		// Of a state that cannot be read the durable one is the next best.
		return each(tx.Bucket(bucket).Bucket(states), func(id string, s State) { present[id] = s }, nil)
	})
	if err != nil {
		return in, fmt.Errorf("load container states: %w", err)
	}
	err = st.durable.View(func(tx *bolt.Tx) error {
		b := tx.Bucket(bucket)
		if err := each(b.Bucket(states), func(id string, s State) { kept[id] = s }, nil); err != nil {
			return err
		}
		return each(b.Bucket(records), func(id string, r Record) {
			if err := r.check(id); err != nil {
				in.unreadable[id] = err
				return
			}
			s, ok := present[id]
			if !ok {
				s = kept[id]
			}
			in.fresh[id], in.ahead[id] = ok, ok && !reflect.DeepEqual(s, kept[id])
			in.all = append(in.all, Snapshot{Record: &r, State: s})
		}, func(id string, err error) { in.unreadable[id] = err })
	})
	if err != nil {
		return in, fmt.Errorf("load containers: %w", err)
	}
	return in, nil
}

// check sees that the record is whole enough for everything that reads it.
func (r *Record) check(id string) error {
	switch {
	case r.ID != id:
		return fmt.Errorf("the record is of %q", r.ID)
	case r.Name == "" || r.Config == nil || r.Host == nil:
		return errors.New("the record is not whole")
	}
	return nil
}

// each decodes what is in b; bad, which may be nil, is told what cannot be decoded.
func each[T any](b *bolt.Bucket, f func(id string, v T), bad func(id string, err error)) error {
	return b.ForEach(func(k, raw []byte) error {
		var v T
		if err := json.Unmarshal(raw, &v); err == nil {
			f(string(k), v)
		} else if bad != nil {
			bad(string(k), err)
		}
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
