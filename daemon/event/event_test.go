package event_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/daemon/event"
	"gantry/internal/testutil/need"
)

func open(t *testing.T, dir string) *event.Service {
	t.Helper()
	s, err := event.Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func publish(s *event.Service, from, n int) {
	for i := range n {
		s.Publish(events.ContainerEventType, events.ActionStart, events.Actor{ID: fmt.Sprint(from + i)})
	}
}

func nothing() error { return nil }

// past returns what is there from since on.
func past(t *testing.T, s *event.Service, since, until time.Time, f filters.Args) (out []events.Message) {
	t.Helper()
	err := s.Subscribe(t.Context(), since, until, f, nothing, func(m events.Message) error {
		out = append(out, m)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func ids(msgs []events.Message) string {
	var s []string
	for _, m := range msgs {
		s = append(s, m.Actor.ID)
	}
	return strings.Join(s, " ")
}

func TestMessage(t *testing.T) {
	s := open(t, t.TempDir())
	attrs := map[string]string{"image": "busybox", "name": "web"}
	s.Publish(events.ContainerEventType, events.ActionDie, events.Actor{ID: "c", Attributes: attrs})
	attrs["name"] = "changed by its owner later"
	s.Publish(events.NetworkEventType, events.ActionConnect, events.Actor{ID: "n"})
	got := past(t, s, time.Time{}, time.Now(), filters.NewArgs())
	if len(got) != 2 {
		t.Fatalf("%d events", len(got))
	}
	c, n := got[0], got[1]
	if c.Status != "die" || c.ID != "c" || c.From != "busybox" || c.Scope != "local" || c.Actor.Attributes["name"] != "web" {
		t.Errorf("container event %+v", c)
	}
	if n.Status != "" || n.ID != "" {
		t.Errorf("network event %+v", n)
	}
	if c.Time != c.TimeNano/int64(time.Second) || n.TimeNano <= c.TimeNano {
		t.Errorf("times %d %d, %d", c.Time, c.TimeNano, n.TimeNano)
	}
}

func TestSinceAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	publish(s, 0, 3)
	all := past(t, s, time.Time{}, time.Now(), filters.NewArgs())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	publish(s, 3, 2)
	got := past(t, s, time.Unix(0, all[1].TimeNano), time.Now(), filters.NewArgs())
	if ids(got) != "1 2 3 4" {
		t.Errorf("got %s", ids(got))
	}
	for i := 1; i < len(got); i++ {
		if got[i].TimeNano <= got[i-1].TimeNano {
			t.Errorf("time went back at %d", i)
		}
	}
	// until the second event, which is itself within
	got = past(t, s, time.Unix(0, all[0].TimeNano), time.Unix(0, all[1].TimeNano), filters.NewArgs())
	if ids(got) != "0 1" {
		t.Errorf("until: %s", ids(got))
	}
}

func TestNoTimesMeansLiveOnly(t *testing.T) {
	s := open(t, t.TempDir())
	publish(s, 0, 2)
	var got []events.Message
	err := s.Subscribe(t.Context(), time.Time{}, time.Time{}, filters.NewArgs(),
		func() error { publish(s, 2, 1); return nil }, // whoever listens misses nothing after open
		func(m events.Message) error { got = append(got, m); return errors.New("enough") })
	if err == nil || ids(got) != "2" {
		t.Errorf("got %s, %v", ids(got), err)
	}
}

func TestUntilEndsLive(t *testing.T) {
	s := open(t, t.TempDir())
	until := time.Now().Add(20 * time.Millisecond)
	if got := past(t, s, time.Time{}, until, filters.NewArgs()); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	if s.Listeners() != 0 {
		t.Errorf("%d listeners are left", s.Listeners())
	}
}

// A subscriber that is slower than the memory is long is served from the log.
func TestSlowSubscriber(t *testing.T) {
	const n = 3000
	s := open(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	next := 0
	err := s.Subscribe(ctx, time.Time{}, time.Time{}, filters.NewArgs(),
		func() error { publish(s, 0, 1); return nil },
		func(m events.Message) error {
			if next == 0 {
				publish(s, 1, n-1) // while this one is not read yet
			}
			if m.Actor.ID != fmt.Sprint(next) {
				return fmt.Errorf("event %s, want %d", m.Actor.ID, next)
			}
			if next++; next == n {
				cancel()
			}
			return nil
		})
	if err != nil || next != n {
		t.Errorf("%d events, %v", next, err)
	}
}

func TestCloseEndsSubscriptions(t *testing.T) {
	s := open(t, t.TempDir())
	ended := make(chan error, 1)
	opened := make(chan struct{})
	go func() {
		ended <- s.Subscribe(context.Background(), time.Time{}, time.Time{}, filters.NewArgs(),
			func() error { close(opened); return nil }, func(events.Message) error { return nil })
	}()
	<-opened
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	publish(s, 0, 1) // dropped, not a panic
}

func TestUnknownFilter(t *testing.T) {
	s := open(t, t.TempDir())
	err := s.Subscribe(t.Context(), time.Time{}, time.Time{}, filters.NewArgs(filters.Arg("colour", "red")),
		func() error { t.Error("opened"); return nil }, nil)
	if !errdefs.IsInvalidArgument(err) || err.Error() != "invalid filter 'colour'" {
		t.Error(err)
	}
}

func TestTornLog(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	publish(s, 0, 2)
	_ = s.Close()
	path := filepath.Join(dir, "events.jsonl")
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	long := `{"Type":"` + strings.Repeat("x", 2<<20) + `"}` + "\n"
	if err := os.WriteFile(path, append([]byte("no event\n"+long), b[:len(b)-9]...), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	publish(s, 2, 1)
	_ = s.Close()
	s = open(t, dir)
	if got := past(t, s, time.Time{}, time.Now(), filters.NewArgs()); ids(got) != "0 2" {
		t.Errorf("got %s", ids(got))
	}
}

func TestRotation(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	attrs := map[string]string{"filler": strings.Repeat("x", 64<<10)}
	for i := range 200 { // 12 MiB, three files' worth
		s.Publish(events.VolumeEventType, events.ActionMount, events.Actor{ID: fmt.Sprint(i), Attributes: attrs})
	}
	_ = s.Close()
	var sum int64
	for _, name := range []string{"events.jsonl", "events.jsonl.1"} {
		st, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		sum += st.Size()
	}
	if sum > 8<<20 {
		t.Errorf("%d bytes on disk", sum)
	}
	s = open(t, dir)
	got := past(t, s, time.Time{}, time.Now(), filters.NewArgs())
	if len(got) < 60 || got[len(got)-1].Actor.ID != "199" {
		t.Errorf("%d events, last %s", len(got), got[len(got)-1].Actor.ID)
	}
}

// Times that no nanosecond stamp can tell are as far away as can be.
func TestFarTimes(t *testing.T) {
	s := open(t, t.TempDir())
	publish(s, 0, 2)
	far, ancient := time.Unix(99999999999999, 0), time.Unix(-99999999999999, 0)
	if got := past(t, s, ancient, time.Now(), filters.NewArgs()); ids(got) != "0 1" {
		t.Errorf("since long ago: %s", ids(got))
	}
	if got := past(t, s, far, time.Now(), filters.NewArgs()); len(got) != 0 {
		t.Errorf("since the far future: %s", ids(got))
	}
	ctx, cancel := context.WithCancel(t.Context())
	var seen []events.Message
	err := s.Subscribe(ctx, ancient, far, filters.NewArgs(), nothing, func(m events.Message) error {
		if seen = append(seen, m); len(seen) == 2 {
			cancel()
		}
		return nil
	})
	if cancel(); err != nil || ids(seen) != "0 1" {
		t.Errorf("until the far future: %s, %v", ids(seen), err)
	}
}

// TestDamagedLog: a log that cannot be used is moved aside, and one with bad lines goes on.
func TestDamagedLog(t *testing.T) {
	for _, tc := range []struct {
		name  string
		spoil func(path string) error
		kept  string
		aside bool
	}{
		{"emptied", func(p string) error { return os.Truncate(p, 0) }, "", false},
		{"cut", func(p string) error { return cut(p) }, "0", false},
		{"random bytes", func(p string) error { return os.WriteFile(p, []byte("\x00\x01{}\n\xff\xfe"), 0o600) }, "", false},
		{"a directory", func(p string) error { return errors.Join(os.Remove(p), os.Mkdir(p, 0o700)) }, "", true},
		{"the older a directory", func(p string) error { return os.Mkdir(p+".1", 0o700) }, "", true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "events.jsonl")
			start := time.Now()
			s := open(t, dir)
			publish(s, 0, 2)
			if err := errors.Join(s.Close(), tc.spoil(path)); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir)
			publish(s, 7, 1)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = open(t, dir)
			want := strings.TrimSpace(tc.kept + " 7")
			if got := ids(past(t, s, start, time.Now(), filters.Args{})); got != want {
				t.Errorf("events %q, want %q", got, want)
			}
			if left, _ := filepath.Glob(path + "*.damaged"); len(left) > 0 != tc.aside {
				t.Errorf("moved aside: %v", left)
			}
		})
	}
}

// cut leaves half of the last line.
func cut(path string) error {
	st, err := os.Stat(path)
	if err != nil {
		return err
	}
	return os.Truncate(path, st.Size()-30)
}

// TestFullDisk: events that a full disk refuses are in the log when there is room again.
func TestFullDisk(t *testing.T) {
	need.Root(t, "mounts a small file system")
	dir := t.TempDir()
	if err := unix.Mount("none", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	start := time.Now()
	s := open(t, dir)
	publish(s, 0, 2)
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 1<<20), 0o600); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	publish(s, 2, 100)
	time.Sleep(100 * time.Millisecond)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "events.jsonl")
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if raw, err := os.ReadFile(path); err == nil && strings.Count(string(raw), "\n") >= 102 || time.Now().After(end) {
			break
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 102 {
		want = append(want, fmt.Sprint(i))
	}
	if got := ids(past(t, open(t, dir), start, time.Now(), filters.Args{})); got != strings.Join(want, " ") {
		t.Errorf("events %s", got)
	}
}

// TestFleeting: events that are not for the disk are heard and seen while they are in
// memory, and leave nothing there.
func TestFleeting(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	publish(s, 0, 1)
	s.PublishFleeting(events.ContainerEventType, events.ActionExecDie, events.Actor{ID: "probe"})
	publish(s, 1, 1)
	if got := ids(past(t, s, time.Time{}, time.Now(), filters.NewArgs())); got != "0 probe 1" {
		t.Errorf("in memory: %s", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := ids(past(t, open(t, dir), time.Time{}, time.Now(), filters.NewArgs())); got != "0 1" {
		t.Errorf("on disk: %s", got)
	}
}

// TestReaderTooSlow: who reads more slowly than the disk holds events is told by the end
// of its stream, and nobody waits for it.
func TestReaderTooSlow(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	attrs := map[string]string{"filler": strings.Repeat("x", 64<<10)}
	mount := func(id string) {
		s.Publish(events.VolumeEventType, events.ActionMount, events.Actor{ID: id, Attributes: attrs})
	}
	flood := func() { // 12 MiB, where 8 are kept
		for i := range 200 {
			mount(fmt.Sprint(i))
		}
		mount("last")
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			if raw, _ := os.ReadFile(filepath.Join(dir, "events.jsonl")); strings.Contains(string(raw), `"ID":"last"`) {
				break
			}
		}
		mount("one more") // which makes the memory let go of what is on disk
	}
	read := 0
	err := s.Subscribe(t.Context(), time.Time{}, time.Time{}, filters.NewArgs(),
		func() error { publish(s, 0, 1); return nil },
		func(events.Message) error {
			if read++; read == 1 {
				flood()
			}
			return nil
		})
	if !errors.Is(err, errdefs.ErrResourceExhausted) || read != 1 {
		t.Errorf("%d events read, %v", read, err)
	}
}
