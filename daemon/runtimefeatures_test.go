package daemon

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMountsRecursively(t *testing.T) {
	for name, row := range map[string]struct {
		script string
		want   bool
	}{
		"told":        {`[ "$1" = features ] && echo '{"mountOptions":["ro","rro"]}'`, true},
		"not among":   {`echo '{"mountOptions":["ro"]}'`, false},
		"no features": {`echo unknown command >&2; exit 1`, false},
		"no JSON":     {`echo rro`, false},
	} {
		path := filepath.Join(t.TempDir(), "runtime")
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+row.script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		if got := mountsRecursively(path); got != row.want {
			t.Errorf("%s: %v", name, got)
		}
	}
	if mountsRecursively("/no/such/runtime") {
		t.Error("a program that is not there")
	}
}
