package container

import (
	"fmt"
	"testing"

	containertypes "github.com/docker/docker/api/types/container"
)

func TestCount(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		count := func(want string) {
			t.Helper()
			running, paused, stopped := s.Count()
			if got := fmt.Sprint(running, paused, stopped); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
		count("0 0 0")
		var ids []string
		for _, name := range []string{"one", "two", "three"} {
			ids = append(ids, w.make(s, name, nil))
		}
		count("0 0 3")
		for _, id := range ids[:2] {
			if err := s.Start(w.t.Context(), id, containertypes.StartOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		count("2 0 1")
		if err := s.Pause(w.t.Context(), ids[0]); err != nil {
			t.Fatal(err)
		}
		count("1 1 1")
	})
}
