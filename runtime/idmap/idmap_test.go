package idmap

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func ids(list ...uint32) (m []specs.LinuxIDMapping) {
	for ; len(list) > 0; list = list[3:] {
		m = append(m, specs.LinuxIDMapping{ContainerID: list[0], HostID: list[1], Size: list[2]})
	}
	return m
}

func TestWay(t *testing.T) {
	for _, c := range []struct {
		name    string
		list    []specs.LinuxIDMapping
		capable bool
		want    way
	}{
		{"own id", ids(0, 1000, 1), false, asOwn},
		{"own id under another number", ids(7, 1000, 1), false, asOwn},
		{"own id and more", ids(0, 1000, 1, 1, 100000, 65536), false, byTool},
		{"own id in a range", ids(0, 1000, 2), false, byTool},
		{"another's", ids(0, 1001, 1), false, byTool},
		{"capable", ids(0, 1000, 1), true, byCapability},
		{"capable, ranges", ids(0, 5, 70000), true, byCapability},
	} {
		if got := users.way(c.list, 1000, c.capable); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

func TestHas(t *testing.T) {
	list := ids(0, 1000, 1, 10, 2000, 5, 4294967295, 3000, 1)
	for id, want := range map[uint32]bool{0: true, 1: false, 9: false, 10: true, 14: true, 15: false, 4294967295: true} {
		if got := Has(list, id); got != want {
			t.Errorf("%d: %v", id, got)
		}
	}
}

// fakeTool puts a program of that name into PATH.
func fakeTool(t *testing.T, name, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":/bin:/usr/bin")
}

func TestTool(t *testing.T) {
	out := filepath.Join(t.TempDir(), "args")
	fakeTool(t, "newuidmap", `echo "$@" >`+out)
	if err := users.runTool(42, ids(0, 1000, 1, 1, 100000, 65536)); err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(out); string(b) != "42 0 1000 1 1 100000 65536\n" {
		t.Errorf("%q", b)
	}
}

// TestToolRefuses: what it says is told, in one line and to a bound.
func TestToolRefuses(t *testing.T) {
	fakeTool(t, "newgidmap", `echo "newgidmap: not
allowed" >&2; i=0; while [ $i -lt 1000 ]; do echo xxxxxxxxx; i=$((i+1)); done; exit 3`)
	err := groups.runTool(42, ids(0, 1000, 2))
	if err == nil || !strings.HasPrefix(err.Error(), "newgidmap: exit status 3: newgidmap: not allowed xxxxxxxxx ") || len(err.Error()) > 2*toolSays {
		t.Errorf("%v", err)
	}
}

func TestNoTool(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	err := users.runTool(42, ids(0, 1000, 2))
	if err == nil || !strings.Contains(err.Error(), "a map of more than one's own user id takes newuidmap") {
		t.Errorf("%v", err)
	}
}
