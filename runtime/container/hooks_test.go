package container_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/container"
	"gantry/runtime/hooks"
)

// journal is a file that hooks write to, which has one name outside and one inside.
type journal struct {
	t    testing.TB
	file string
}

const journalInside = "/journal"

func newJournal(b *bed) *journal {
	j := &journal{b.t, filepath.Join(b.rootfs(), journalInside)}
	if err := os.WriteFile(j.file, nil, 0o666); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Chmod(j.file, 0o666); err != nil {
		b.t.Fatal(err)
	}
	return j
}

// entry is what a hook has noted of itself.
type entry struct {
	name, uts, mnt, uid, seccomp, env string
	state                             specs.State
}

// hook notes itself, then does more.
func (j *journal) hook(name, more string) specs.Hook {
	file := j.file
	if name == "startContainer" {
		file = journalInside
	}
	note := fmt.Sprintf(`echo "%s|$(readlink /proc/self/ns/uts)|$(readlink /proc/self/ns/mnt)|$(id -u)|$(grep Seccomp: /proc/self/status | tr -dc 0-9)|$A|$(cat)" >>%s; %s`, name, file, more)
	return specs.Hook{Path: "/bin/sh", Args: []string{"sh", "-c", note}}
}

func (j *journal) entries() (list []entry) {
	j.t.Helper()
	b, err := os.ReadFile(j.file)
	if err != nil {
		j.t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		f := strings.SplitN(line, "|", 7)
		if len(f) != 7 {
			j.t.Fatalf("entry %q", line)
		}
		e := entry{f[0], f[1], f[2], f[3], f[4], f[5], specs.State{}}
		if err := json.Unmarshal([]byte(f[6]), &e.state); err != nil {
			j.t.Fatalf("%s: state %q: %v", e.name, f[6], err)
		}
		list = append(list, e)
	}
	return list
}

func names(list []entry) (out []string) {
	for _, e := range list {
		out = append(out, e.name)
	}
	return out
}

// allHooks are two of each kind; fails says which of them fail.
func (j *journal) allHooks(fails ...string) *specs.Hooks {
	two := func(name string) []specs.Hook {
		more := "true"
		if slices.Contains(fails, name) {
			more = "echo the reason >&2; exit 3"
		}
		return []specs.Hook{j.hook(name, more), j.hook(name, "true")}
	}
	return &specs.Hooks{
		Prestart: two("prestart"), CreateRuntime: two("createRuntime"), CreateContainer: two("createContainer"), //nolint:staticcheck // still in use
		StartContainer: two("startContainer"), Poststart: two("poststart"), Poststop: two("poststop"),
	}
}

func twice(names ...string) (out []string) {
	for _, n := range names {
		out = append(out, n, n)
	}
	return out
}

// TestAllHooks: each in its order, its namespaces, with its state.
func TestAllHooks(t *testing.T) {
	b := newBed(t)
	j := newJournal(b)
	s := b.spec("sleep", "100")
	s.Hooks = j.allHooks()
	s.Process.User.UID, s.Process.Env = 7, append(s.Process.Env, "A=the init's")
	s.Annotations = map[string]string{"k": "v"}
	s.Linux.Seccomp = denyMkdir()
	c, err := b.create(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := names(j.entries()); !slices.Equal(got, twice("prestart", "createRuntime", "createContainer")) {
		t.Errorf("after create: %v", got)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid := c.Pid()
	ns := func(pid, kind string) string { l, _ := os.Readlink("/proc/" + pid + "/ns/" + kind); return l }
	inside := [2]string{ns(itoa(pid), "uts"), ns(itoa(pid), "mnt")}
	outside := [2]string{ns("self", "uts"), ns("self", "mnt")}
	b.delete(c)
	list := j.entries()
	if got := names(list); !slices.Equal(got, twice("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")) {
		t.Fatalf("hooks %v", got)
	}
	want := map[string]struct {
		ns           [2]string
		uid, seccomp string
		status       specs.ContainerState
		pid          int
	}{
		"prestart":        {outside, "0", "0", specs.StateCreating, pid},
		"createRuntime":   {outside, "0", "0", specs.StateCreating, pid},
		"createContainer": {inside, "0", "0", specs.StateCreating, pid},
		"startContainer":  {inside, "7", "2", specs.StateCreated, pid},
		"poststart":       {outside, "0", "0", specs.StateRunning, pid},
		"poststop":        {outside, "0", "0", specs.StateStopped, 0},
	}
	for _, e := range list {
		w := want[e.name]
		if [2]string{e.uts, e.mnt} != w.ns || e.uid != w.uid || !strings.HasPrefix(e.seccomp, w.seccomp) {
			t.Errorf("%s: in %s and %s as %s with filter %s, want %+v", e.name, e.uts, e.mnt, e.uid, e.seccomp, w)
		}
		if e.state.Status != w.status || e.state.Pid != w.pid || e.state.ID != "c1" || e.state.Bundle != b.bundle ||
			e.state.Version != specs.Version || e.state.Annotations["k"] != "v" {
			t.Errorf("%s: state %+v", e.name, e.state)
		}
		if e.name == "startContainer" && e.env != "the init's" || e.name != "startContainer" && e.env != "" {
			t.Errorf("%s: environment %q", e.name, e.env)
		}
	}
}

// TestFailingHooks: those before the container runs end it, and so does poststart;
// poststop's are told of. The poststop hooks run in any case.
func TestFailingHooks(t *testing.T) {
	for _, c := range []struct {
		fails, from string
		ran         []string
	}{
		{"prestart", "create", []string{"prestart", "poststop", "poststop"}},
		{"createRuntime", "create", []string{"prestart", "prestart", "createRuntime", "poststop", "poststop"}},
		{"createContainer", "create", append(twice("prestart", "createRuntime"), "createContainer", "poststop", "poststop")},
		{"startContainer", "start", append(twice("prestart", "createRuntime", "createContainer"), "startContainer", "poststop", "poststop")},
		{"poststart", "start", append(twice("prestart", "createRuntime", "createContainer", "startContainer"), "poststart", "poststop", "poststop")},
		{"poststop", "", twice("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")},
	} {
		t.Run(c.fails, func(t *testing.T) {
			b := newBed(t)
			j := newJournal(b)
			s := b.spec("sleep", "100")
			s.Hooks = j.allHooks(c.fails)
			var told []string
			ctr, err := b.create(s, func(o *container.CreateOptions) { o.Warn = func(m string) { told = append(told, m) } })
			from := "create"
			if err == nil {
				from = "start"
				err = ctr.Start(t.Context())
				if err != nil {
					if status := b.wait(ctr.PidFD()); status != 128+int(unix.SIGKILL) {
						t.Errorf("the container ended with %d", status)
					}
					err = errors.Join(err, ctr.Delete(t.Context(), false))
				} else {
					b.delete(ctr)
				}
			}
			if err == nil {
				from = ""
			}
			if from != c.from {
				t.Errorf("%q failed: %v", from, err)
			}
			text := fmt.Sprintf("%s hook 0, /bin/sh: exit status 3: the reason", c.fails)
			if he, ok := errors.AsType[*hooks.Error](err); c.from != "" && (!ok || he.Error() != text) {
				t.Errorf("error %v", err)
			}
			if c.from == "" && !slices.Contains(told, text) {
				t.Errorf("told %q", told)
			}
			if got := names(j.entries()); !slices.Equal(got, c.ran) {
				t.Errorf("ran %v", got)
			}
		})
	}
}

// TestHookTimeout: the hook's whole group ends with its time.
func TestHookTimeout(t *testing.T) {
	second := 1
	for _, name := range []string{"createRuntime", "createContainer", "startContainer"} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			j := newJournal(b)
			h := j.hook(name, "sleep 4242 & sleep 4242")
			h.Timeout = &second
			s := b.spec("sleep", "100")
			s.Hooks = map[string]*specs.Hooks{"createRuntime": {CreateRuntime: []specs.Hook{h}},
				"createContainer": {CreateContainer: []specs.Hook{h}}, "startContainer": {StartContainer: []specs.Hook{h}}}[name]
			c, err := b.create(s, nil)
			if err == nil {
				err = c.Start(t.Context())
			}
			if err == nil || !strings.Contains(err.Error(), name+" hook 0, /bin/sh: context deadline exceeded") {
				t.Errorf("error %v", err)
			}
			for deadline := time.Now().Add(10 * time.Second); len(sleepers()) > 0; time.Sleep(10 * time.Millisecond) {
				if time.Now().After(deadline) {
					t.Fatalf("still there: %v", sleepers())
				}
			}
		})
	}
}

func sleepers() (pids []string) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range all {
		if b, _ := os.ReadFile(f); string(b) == "sleep\x004242\x00" {
			pids = append(pids, f)
		}
	}
	return pids
}

// TestHangingPoststart: whoever starts waits for it, nobody else does.
func TestHangingPoststart(t *testing.T) {
	b := newBed(t)
	j := newJournal(b)
	s := b.spec("sleep", "100")
	s.Hooks = &specs.Hooks{Poststart: []specs.Hook{j.hook("poststart", "echo $$ >"+j.file+".pid; exec sleep 100")}}
	c, err := b.create(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	defer work.Wait()
	done := make(chan struct{})
	work.Go(func() {
		defer close(done)
		if err := c.Start(t.Context()); err == nil {
			t.Error("start went on without its hook")
		}
	})
	for deadline := time.Now().Add(20 * time.Second); missing(j.file+".pid") && time.Now().Before(deadline); {
		time.Sleep(5 * time.Millisecond)
	}
	other, err := container.Load(b.root, "c1")
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(t.Context()); !errors.Is(err, errdefs.ErrFailedPrecondition) {
		t.Errorf("second start: %v", err)
	}
	if out, _ := b.exec(other, "echo", "hi"); out != "hi\n" {
		t.Errorf("exec: %q", out)
	}
	select {
	case <-done:
		t.Error("start did not wait for its hook")
	default:
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(must(os.ReadFile(j.file + ".pid")))))
	if err != nil {
		t.Fatal(err)
	}
	unix.Kill(pid, unix.SIGKILL)
}

func missing(file string) bool {
	st, err := os.Stat(file)
	return err != nil || st.Size() == 0
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestDeleteTwice: whoever comes second finds no container, and no hook runs again.
func TestDeleteTwice(t *testing.T) {
	b := newBed(t)
	j := newJournal(b)
	s := b.spec("true")
	s.Hooks = &specs.Hooks{Poststop: []specs.Hook{j.hook("poststop", "true")}}
	c, err := b.create(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.wait(c.PidFD())
	var work sync.WaitGroup
	var mu sync.Mutex
	well := 0
	others := make([]*container.Container, 16)
	for i := range 8 { // the rest look for it while it is deleted
		others[i] = must(container.Load(b.root, "c1"))
	}
	for _, other := range others {
		work.Go(func() {
			var err error
			if other == nil {
				other, err = container.Load(b.root, "c1")
			}
			if err == nil {
				err = other.Delete(t.Context(), false)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				well++
			case !errors.Is(err, errdefs.ErrNotFound):
				t.Errorf("delete: %v", err)
			}
		})
	}
	work.Wait()
	if got := names(j.entries()); well != 1 || !slices.Equal(got, []string{"poststop"}) {
		t.Errorf("%d deleted it, hooks %v", well, got)
	}
}
