package server_test

import (
	"strings"
	"testing"

	"gantry/libctr/server"
)

func TestProcessorsAreChecked(t *testing.T) {
	whole := server.StreamProcessor{Accepts: []string{"a"}, Returns: "b", Path: "c"}
	for name, c := range map[string]struct {
		p  server.StreamProcessor
		ok bool
	}{
		"whole":           {whole, true},
		"accepts nothing": {server.StreamProcessor{Returns: "b", Path: "c"}, false},
		"returns nothing": {server.StreamProcessor{Accepts: whole.Accepts, Path: "c"}, false},
		"no program":      {server.StreamProcessor{Accepts: whole.Accepts, Returns: "b"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := newConfig(t)
			cfg.StreamProcessors = map[string]server.StreamProcessor{"one": c.p}
			s, err := server.New(t.Context(), cfg)
			if err == nil {
				s.Stop(t.Context()) //nolint:errcheck // not started
			}
			if (err == nil) != c.ok || err != nil && !strings.Contains(err.Error(), "stream_processors.one") {
				t.Errorf("%v", err)
			}
		})
	}
}
