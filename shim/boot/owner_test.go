package boot

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gantry/api/errdefs"
	"gantry/internal/testutil/need"
	"gantry/runtime/cgroup"
	"gantry/shim/process"
	"gantry/shim/stdio"
)

// made is a runtime that makes nothing.
type made struct{ process.Runtime }

func (made) Create(context.Context, process.CreateOptions) (process.Container, process.Started, error) {
	return made{}.container(), process.Started{}, nil
}

func (made) container() process.Container { return madeContainer{} }

type madeContainer struct{ process.Container }

func (madeContainer) Exec(context.Context, process.ExecOptions) (process.Started, error) {
	return process.Started{}, nil
}

func TestIoOwner(t *testing.T) {
	need.Root(t, "gives files away")
	pipes := func() (fs stdio.Files) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		named, err := os.Create(filepath.Join(t.TempDir(), "named"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { r.Close(); w.Close(); named.Close() })
		return stdio.Files{Stdin: r, Stderr: named}
	}
	owner := func(f *os.File) string {
		st, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		s := st.Sys().(*syscall.Stat_t)
		return fmt.Sprintf("%d:%d", s.Uid, s.Gid)
	}
	check := func(what string, fs stdio.Files) {
		if got := owner(fs.Stdin); got != "7:8" {
			t.Errorf("%s: a pipe is %s's", what, got)
		}
		if got := owner(fs.Stderr); got != "0:0" {
			t.Errorf("%s: a file with a name is %s's", what, got)
		}
	}
	ctx, fs := t.Context(), pipes()
	c, _, err := owned{made{}, 7, 8}.Create(ctx, process.CreateOptions{Files: fs})
	if err != nil {
		t.Fatal(err)
	}
	check("create", fs)
	fs = pipes()
	if _, err := c.Exec(ctx, process.ExecOptions{Files: fs}); err != nil {
		t.Fatal(err)
	}
	check("exec", fs)
}

func TestShimCgroup(t *testing.T) {
	need.Root(t, "makes a cgroup")
	path := fmt.Sprintf("/gantry-test-shim-%d", os.Getpid())
	sleep := exec.Command("sleep", "1000")
	if err := sleep.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { sleep.Process.Kill(); sleep.Wait() }()
	if err := enterCgroup(path, sleep.Process.Pid); !errdefs.IsNotFound(err) {
		t.Errorf("a cgroup that is not there: %v", err)
	}
	m, err := cgroup.New(path, cgroup.Options{})
	if err != nil {
		t.Skipf("needs cgroups: %v", err)
	}
	if err := m.Create(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		sleep.Process.Kill()
		sleep.Wait()
		if err := m.Delete(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	if err := enterCgroup(path, sleep.Process.Pid); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", sleep.Process.Pid))
	if err != nil || !strings.Contains(string(raw), path) {
		t.Errorf("%v: %s", err, raw)
	}
}
