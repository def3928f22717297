package container_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/runtime/container"
	"gantry/runtime/security/rlimit"
)

// TestRlimits: every limit that there is arrives.
func TestRlimits(t *testing.T) {
	types := []string{"AS", "CORE", "CPU", "DATA", "FSIZE", "LOCKS", "MEMLOCK", "MSGQUEUE", "NICE", "NOFILE", "NPROC", "RSS",
		"RTPRIO", "RTTIME", "SIGPENDING", "STACK"}
	var list []specs.POSIXRlimit
	for i, name := range types {
		n, ok := rlimit.Number("RLIMIT_" + name)
		if !ok {
			t.Fatalf("no limit %s", name)
		}
		var own unix.Rlimit
		if err := unix.Prlimit(0, n, nil, &own); err != nil {
			t.Fatal(err)
		}
		hard := min(own.Max, 1<<30+uint64(i))
		list = append(list, specs.POSIXRlimit{Type: "RLIMIT_" + name, Soft: hard - hard/4, Hard: hard})
	}
	b := newBed(t)
	c := b.started(func(s *specs.Spec) { s.Process.Rlimits = list })
	p := b.beside(c, nil)
	for _, pid := range []int{c.Pid(), p.Pid} {
		for _, want := range list {
			n, _ := rlimit.Number(want.Type)
			var got unix.Rlimit
			if err := unix.Prlimit(pid, n, nil, &got); err != nil || got.Cur != want.Soft || got.Max != want.Hard {
				t.Errorf("%s: %+v, %v, want %+v", want.Type, got, err, want)
			}
		}
	}
}

// TestUnknownCapabilities are left out, with a warning.
func TestUnknownCapabilities(t *testing.T) {
	b := newBed(t)
	s := b.spec("sh", "-c", "grep CapEff /proc/self/status")
	for _, set := range []*[]string{&s.Process.Capabilities.Bounding, &s.Process.Capabilities.Effective, &s.Process.Capabilities.Permitted} {
		*set = []string{"CAP_KILL", "CAP_TIME_TRAVEL", "NET_ADMIN"}
	}
	var told []string
	c, err := b.create(s, func(o *container.CreateOptions) { o.Warn = func(m string) { told = append(told, m) } })
	if err != nil {
		t.Fatal(err)
	}
	if want := "ignoring unknown or unavailable capabilities: [CAP_TIME_TRAVEL NET_ADMIN]"; !slices.Contains(told, want) {
		t.Errorf("told %q", told)
	}
	b.delete(c)
	if out, _ := b.run(s); out != "CapEff:\t0000000000000020\n" {
		t.Errorf("output %q", out)
	}
}

// TestWorkingDirectory: one that leads out of the root stays inside, one that is no
// directory is an error that runc's callers know.
func TestWorkingDirectory(t *testing.T) {
	b := newBed(t)
	s := b.spec("sh", "-c", "ln -s ../../../../../../../.. /up; ln -s /proc/self/root/etc /magic")
	b.run(s)
	for cwd, want := range map[string]string{"/up/etc": "/etc\n", "/../../tmp": "/tmp\n"} {
		s := b.spec("pwd", "-P")
		s.Process.Cwd = cwd
		if out, _ := b.run(s); out != want {
			t.Errorf("%s: %q", cwd, out)
		}
	}
	for cwd, want := range map[string]string{
		"/etc/passwd": `chdir to cwd ("/etc/passwd") set in config.json failed: not a directory`,
	} {
		s := b.spec("pwd")
		s.Process.Cwd = cwd
		if _, err := b.create(s, nil); err == nil || !strings.HasSuffix(err.Error(), "not a directory") {
			t.Errorf("%s: error %v, want %s", cwd, err, want)
		}
	}
	c := b.started(nil)
	_, err := c.Exec(t.Context(), container.ExecOptions{Process: &specs.Process{Args: []string{"pwd"}, Cwd: "/none", Env: []string{"PATH=/bin"}}})
	if err == nil || err.Error() != `chdir to cwd ("/none") set in config.json failed: no such file or directory` {
		t.Errorf("error %v", err)
	}
}
