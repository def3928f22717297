package daemon

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/events"
	"go.etcd.io/bbolt"

	"gantry/api/database"
	"gantry/daemon/container"
	"gantry/daemon/volume"
	"gantry/internal/testutil/stored"
)

type nobody struct{}

func (nobody) Publish(events.Type, events.Action, events.Actor)         {}
func (nobody) PublishFleeting(events.Type, events.Action, events.Actor) {}

// TestFirstVersion opens databases that the first version has written, as they are and
// with a version after it.
func TestFirstVersion(t *testing.T) {
	data, run := t.TempDir(), t.TempDir()
	stored.Unpack(t, "testdata/v1/gantry.db.gz", filepath.Join(data, "gantry.db"))
	stored.Unpack(t, "testdata/v1/run.db.gz", filepath.Join(run, "run.db"))
	toPresentBoot(t, filepath.Join(run, "run.db"))
	ran := 0
	step := func(*bbolt.Tx) error { ran++; return nil }
	durable, runtime := durableSchema, runtimeSchema
	defer func() { durableSchema, runtimeSchema = durable, runtime }()
	openBoth(t, data, run, checkFirst)
	durableSchema.Steps = append(durableSchema.Steps, step)
	runtimeSchema.Steps = append(runtimeSchema.Steps, step)
	openBoth(t, data, run, checkFirst)
	if ran != 2 {
		t.Errorf("%d steps have run", ran)
	}
	durableSchema, runtimeSchema = durable, runtime
	_, err := openDurable(data)
	refused(t, err, filepath.Join(data, "gantry.db"))
	_, err = openRuntime(run, slog.New(slog.DiscardHandler))
	refused(t, err, filepath.Join(run, "run.db"))
}

func refused(t *testing.T, err error, path string) {
	t.Helper()
	if !errors.Is(err, database.ErrNewer) || !strings.Contains(err.Error(), path) {
		t.Errorf("%s is newer: %v", path, err)
	}
}

func openBoth(t *testing.T, data, run string, check func(t *testing.T, db, run *database.DB)) {
	t.Helper()
	db, err := openDurable(data)
	if err != nil {
		t.Fatal(err)
	}
	r, err := openRuntime(run, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	check(t, db, r)
	if err := errors.Join(db.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
}

// toPresentBoot lets a stored file pass for one of the running kernel.
func toPresentBoot(t *testing.T, path string) {
	t.Helper()
	boot, err := database.BootID()
	if err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return errors.Join(tx.Bucket([]byte("boot")).Put([]byte("id"), []byte(boot)),
			tx.Bucket([]byte("container")).Put([]byte("boot"), []byte(boot)))
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
}

func checkFirst(t *testing.T, db, run *database.DB) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	s, err := container.New(container.Config{Root: t.TempDir()}, container.Deps{Events: nobody{}}, db, run, log)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	found := map[string]container.Status{}
	for _, c := range s.All() {
		found[c.Name] = c.Status
		switch c.Name {
		case "web":
			if c.Pid != 49 || c.Network.Ports["80/tcp"][0].HostPort != "8080" || !c.Host.RestartPolicy.IsUnlessStopped() || len(c.Mounts) != 1 {
				t.Errorf("web: %+v", c.State)
			}
		case "ended":
			if c.ExitCode != 3 || c.FinishedAt.IsZero() {
				t.Errorf("ended: %+v", c.State)
			}
		case "new":
			if c.Config.Labels["a"] != "b" {
				t.Errorf("new: %+v", c.Config)
			}
		}
	}
	if len(found) != 3 || found["web"] != container.Running || found["ended"] != container.Exited || found["new"] != container.Created {
		t.Errorf("containers %v", found)
	}
	v, err := volume.New(t.TempDir(), db, nobody{}, log)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := v.Inspect(t.Context(), "data"); err != nil || got.Labels["x"] != "y" {
		t.Errorf("volume %+v, %v", got, err)
	}
}
