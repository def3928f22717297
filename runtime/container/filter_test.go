package container

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestKeptFilter(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, filterName)
	s := &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog},
		Syscalls: []specs.LinuxSyscall{{Names: []string{"mkdir"}, Action: specs.ActErrno}}}
	want, err := compileFilter(s)
	if err != nil {
		t.Fatal(err)
	}
	get := func(s *specs.LinuxSeccomp) filter {
		t.Helper()
		f, err := keptCompiler(dir, s)()
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	if got := get(s); !reflect.DeepEqual(got, want) {
		t.Errorf("compiled: %+v", got)
	}
	other := &specs.LinuxSeccomp{DefaultAction: specs.ActKill}
	if got := get(other); !reflect.DeepEqual(got, want) {
		t.Errorf("kept: %+v", got)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, whole[:16], whole[:len(whole)-1], append([]byte("x"), whole[1:]...)} {
		if err := os.WriteFile(path, bad, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := get(s); !reflect.DeepEqual(got, want) {
			t.Errorf("after %d damaged bytes: %+v", len(bad), got)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}
