package event

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

// Commands are part of execs' events, and may be long: that bounds their number in
// memory, and those that no reader of the log would take are not written to it.
func TestLongActions(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i := range 100 {
		long := events.Action(fmt.Sprintf("exec_create: %d", i) + strings.Repeat("x", maxLine))
		s.Publish(events.ContainerEventType, long, events.Actor{})
	}
	s.Publish(events.ContainerEventType, events.ActionStart, events.Actor{})
	for deadline := time.Now().Add(time.Minute); len(s.unwritten().msgs) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the log is not written")
		}
	}
	s.Publish(events.ContainerEventType, events.ActionDie, events.Actor{})
	held := 0
	for _, m := range s.from(0).msgs {
		held += len(m.Action)
	}
	if most := maxInMemory/inMemory*maxSize + 2*maxLine; held > most {
		t.Errorf("%d bytes are held", held)
	}
	s.Close()
	info, err := os.Stat(filepath.Join(dir, "events.jsonl"))
	if err != nil || info.Size() > 10<<10 {
		t.Errorf("the log: %v, %v", info.Size(), err)
	}
	next, err := Open(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	var got []string
	err = next.Subscribe(t.Context(), time.Unix(1, 0), time.Now(), filters.NewArgs(), func() error { return nil }, func(m events.Message) error {
		got = append(got, string(m.Action))
		return nil
	})
	if err != nil || strings.Join(got, " ") != "start die" {
		t.Errorf("%q, %v", got, err)
	}
}
