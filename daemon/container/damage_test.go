package container

import (
	"errors"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	bolt "go.etcd.io/bbolt"

	apicontainer "gantry/api/container"
	"gantry/api/database"
)

// A record that cannot be read costs its container, which is left as it is, and no other.
func TestUnreadableRecord(t *testing.T) {
	for _, tc := range []struct{ name, bucket, value string }{
		{"torn", "records", `{"ID":"`},
		{"empty", "records", ``},
		{"of nothing", "records", `{}`},
		{"of another", "records", `{"ID":"x","Name":"bad","Config":{},"Host":{}}`},
		{"not an object", "records", "\x00\x01\x02"},
		{"state torn", "states", `{"Status":`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			inBubble(t, func(w *world, s *Service) {
				bad, good := w.make(s, "bad", nil), w.make(s, "good", nil)
				w.shutDown(s)
				err := w.durable.Update(func(tx *bolt.Tx) error {
					return tx.Bucket(bucket).Bucket([]byte(tc.bucket)).Put([]byte(bad), []byte(tc.value))
				})
				if err != nil {
					t.Fatal(err)
				}
				s2 := w.service()
				defer w.shutDown(s2)
				if s2.entry(good) == nil {
					t.Error("the other container is gone")
				}
				if _, err := os.Stat(s2.dir(bad)); err != nil {
					t.Errorf("its directory: %v", err)
				}
				if got, want := s2.entry(bad) != nil, tc.bucket == "states"; got != want {
					t.Errorf("listed: %v, want %v", got, want)
				}
				err = w.durable.View(func(tx *bolt.Tx) error {
					if got := string(tx.Bucket(bucket).Bucket([]byte(tc.bucket)).Get([]byte(bad))); got != tc.value {
						t.Errorf("the record was changed: %q", got)
					}
					return nil
				})
				if err != nil {
					t.Fatal(err)
				}
			})
		})
	}
}

// fullDisk refuses writes while it is told to.
type fullDisk struct {
	database.Records
	full *atomic.Bool
}

func (d fullDisk) Update(f func(*bolt.Tx) error) error {
	if d.full.Load() {
		return syscall.ENOSPC
	}
	return d.Records.Update(f)
}

// TestStatesOfFullDisk: an exit that could not be saved is saved once there is room.
func TestStatesOfFullDisk(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		id := w.make(s, "app", nil)
		if err := s.Start(w.t.Context(), id, containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * flushEvery)
		synctest.Wait() // nobody is at the store
		full := new(atomic.Bool)
		full.Store(true)
		s.store.durable, s.store.runtime = fullDisk{w.durable, full}, fullDisk{w.runtime, full}
		w.end(id, 7)
		synctest.Wait()
		if c := s.entry(id).snapshot(); c.Status != Exited || c.ExitCode != 7 {
			t.Fatalf("in memory: %+v", c.State)
		}
		if _, err := s.Create(w.t.Context(), apicontainer.CreateOptions{
			Name: "new", Config: &containertypes.Config{Image: "app"}, HostConfig: &containertypes.HostConfig{},
		}); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("create: %v", err)
		}
		time.Sleep(5 * flushEvery)
		full.Store(false)
		time.Sleep(2 * flushEvery)
		in, err := s.store.load()
		if err != nil || len(in.all) != 1 || in.all[0].Status != Exited || in.all[0].ExitCode != 7 {
			t.Errorf("run-time: %+v, %v", in.all, err)
		}
		err = w.durable.View(func(tx *bolt.Tx) error {
			return each(tx.Bucket(bucket).Bucket(states), func(_ string, s State) {
				if s.Status != Exited || s.ExitCode != 7 {
					t.Errorf("durable: %+v", s)
				}
			}, nil)
		})
		if err != nil {
			t.Fatal(err)
		}
	})
}
