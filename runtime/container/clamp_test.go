package container_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/container"
	"gantry/runtime/security/caps"
)

// TestClamp: a root with less than all capabilities still starts containers
// that ask for more, and says what they did not get.
func TestClamp(t *testing.T) {
	b := newBed(t)
	own, err := caps.Own()
	if err != nil {
		t.Fatal(err)
	}
	if own.Permitted&(1<<unix.CAP_SYS_RESOURCE) != 0 {
		t.Skip("needs a root without CAP_SYS_RESOURCE")
	}
	var lim unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &lim)
	adj := -900
	s := b.spec("sh", "-c", "cat /proc/self/oom_score_adj; ulimit -Hn; grep CapEff /proc/self/status")
	s.Process.OOMScoreAdj = &adj
	s.Process.Rlimits = []specs.POSIXRlimit{{Type: "RLIMIT_NOFILE", Soft: 1 << 30, Hard: 1 << 30}}
	all := caps.Names(1<<41 - 1)
	s.Process.Capabilities = &specs.LinuxCapabilities{Bounding: all, Effective: all, Permitted: all}
	var warnings []string
	r, w, _ := os.Pipe()
	defer r.Close()
	c, err := b.create(s, func(o *container.CreateOptions) {
		o.Stdout, o.Stderr, o.Warn = w, w, func(m string) { warnings = append(warnings, m) }
	})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	adjNow, _ := os.ReadFile("/proc/self/oom_score_adj")
	want := fmt.Sprintf("%s%d\nCapEff:\t%016x\n", adjNow, lim.Max, own.Permitted)
	if out := readAll(r); out != want {
		t.Errorf("output %q, want %q", out, want)
	}
	for _, about := range []string{"oom_score_adj to -900", "RLIMIT_NOFILE", "CAP_SYS_RESOURCE"} {
		if !strings.Contains(strings.Join(warnings, "\n"), about) {
			t.Errorf("no warning about %s in %q", about, warnings)
		}
	}
}

// TestUndumpable: /proc/<pid> of an undumpable process belongs to root, whoever
// it runs as.
func TestUndumpable(t *testing.T) {
	b := newBed(t)
	s := b.spec("sleep", "100")
	s.Process.User.UID = 1000
	c, err := b.create(s, nil)
	if err != nil {
		t.Fatal(err)
	}
	owner := func() uint32 {
		st, err := os.Stat("/proc/" + itoa(c.Pid()) + "/environ")
		if err != nil {
			t.Fatal(err)
		}
		return st.Sys().(*syscall.Stat_t).Uid
	}
	if uid := owner(); uid != 0 {
		t.Errorf("before start: owner %d", uid)
	}
	if err := c.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	if uid := owner(); uid != 1000 {
		t.Errorf("after start: owner %d", uid)
	}
}

// TestUndo: a Create that fails late leaves nothing; newBed looks.
func TestUndo(t *testing.T) {
	for name, change := range map[string]func(b *bed, s *specs.Spec){
		"cgroup limit": func(b *bed, s *specs.Spec) {
			s.Linux.Resources = &specs.LinuxResources{CPU: &specs.LinuxCPU{Cpus: "4000"}}
		},
		"namespace": func(b *bed, s *specs.Spec) { s.Linux.Namespaces[2].Path = "/no/such" },
		"rootfs":    func(b *bed, s *specs.Spec) { s.Root.Path = "/no/such" },
		"cwd":       func(b *bed, s *specs.Spec) { s.Process.Cwd = "/bin/busybox" },
		"late hook": func(b *bed, s *specs.Spec) {
			s.Hooks = &specs.Hooks{CreateContainer: []specs.Hook{{Path: "/no/such"}}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t)
			s := b.spec("true")
			change(b, s)
			if c, err := b.create(s, nil); err == nil {
				t.Errorf("created %s", c.ID())
			} else {
				t.Log(err)
			}
		})
	}
}
