package program_test

import (
	"context"
	"errors"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// spawn starts p and reaps it in the end.
func spawn(t *testing.T, p *program.Program, files map[string]*os.File) *program.Process {
	t.Helper()
	c, err := program.Start(p, files)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Abort)
	return c
}

func next(t *testing.T, c *program.Process) program.Event {
	t.Helper()
	ev, err := c.Next(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return ev
}

func status(t *testing.T, c *program.Process) int {
	t.Helper()
	info, err := program.Reap(c.PidFD)
	if err != nil {
		t.Fatal(err)
	}
	return int(siginfoStatus(info))
}

func TestExecve(t *testing.T) {
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	p := program.New()
	stdout := p.Input("stdout")
	p.Keep(3, stdout)
	p.Dup(stdout, 1)
	exe := p.Address("exe", "/bin/busybox")
	p.Execve(exe, []string{"sh", "-c", "echo $A; ls /proc/self/fd; exit 7"}, []string{"A=b c"})
	c := spawn(t, p, map[string]*os.File{"stdout": out})
	if ev := next(t, c); ev.Kind != program.Execed {
		t.Errorf("event %v, want execed", ev)
	}
	if got := status(t, c); got != 7 {
		t.Errorf("status %d, want 7", got)
	}
	// fd 0 is the directory that ls reads
	if b, _ := os.ReadFile(out.Name()); string(b) != "b c\n0\n1\n" {
		t.Errorf("output %q", b)
	}
}

func TestFailureNamesItsOp(t *testing.T) {
	p := program.New()
	p.Label("open the door")
	p.Open("door", program.Cwd, "/no/such/door", unix.O_RDONLY)
	p.Exit()
	c := spawn(t, p, nil)
	_, err := c.Next(context.Background())
	if !errors.Is(err, unix.ENOENT) || err.Error() != "open the door: no such file or directory" {
		t.Errorf("error %v", err)
	}
	var pe *program.Error
	if !errors.As(err, &pe) || pe.Call != `door = openat(cwd, "/no/such/door", CLOEXEC, 0)` {
		t.Errorf("call %q", pe.Call)
	}
}

func TestAskAndSkip(t *testing.T) {
	p := program.New()
	p.Ask('a')
	p.Label("tolerated")
	_, o := p.Open("x", program.Cwd, "/no/such/file", 0)
	o.Tolerate(unix.ENOENT).Note()
	p.IfOK(o, func() { p.Tell('!') })
	_, o = p.Open("y", program.Cwd, "/dev/null", 0)
	p.IfFailed(o, func() { p.Tell('!') })
	f, _ := p.Open("z", program.Cwd, "/dev/zero", 0)
	p.TellFD('z', f)
	p.Exit()
	c := spawn(t, p, nil)
	if ev := next(t, c); ev.Kind != program.Asked || ev.Code != 'a' {
		t.Fatalf("event %v", ev)
	}
	if err := c.Answer(); err != nil {
		t.Fatal(err)
	}
	ev := next(t, c)
	if ev.Code != 'z' || ev.File == nil {
		t.Fatalf("event %v", ev)
	}
	b := []byte{1, 2}
	if n, err := ev.File.Read(b); n != 2 || err != nil || b[0] != 0 {
		t.Errorf("read %v %v %v", b, n, err)
	}
	ev.File.Close()
	if ev := next(t, c); ev.Kind != program.Exited {
		t.Errorf("event %v", ev)
	}
	if notes := c.Notes(); len(notes) != 1 || notes[0].Label != "tolerated" || notes[0].Errno != unix.ENOENT {
		t.Errorf("notes %v", notes)
	}
}

func TestChildLeavesWithItsParent(t *testing.T) {
	p := program.New()
	p.Ask('a')
	p.Exit()
	c := spawn(t, p, nil)
	next(t, c)
	c.Release()
	if got := status(t, c); got != 1 {
		t.Errorf("status %d, want 1", got)
	}
}

func TestKilledChildIsNoSuccess(t *testing.T) {
	p := program.New()
	p.Ask('a')
	p.Exit()
	c := spawn(t, p, nil)
	next(t, c)
	unix.Kill(c.Pid, unix.SIGKILL)
	if _, err := c.Next(context.Background()); err != program.ErrDied {
		t.Errorf("error %v, want ErrDied", err)
	}
}

func TestNextHonoursContext(t *testing.T) {
	p := program.New()
	p.Ask('a')
	p.Exit()
	c := spawn(t, p, nil)
	next(t, c)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Next(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestForkAndJoin(t *testing.T) {
	for status, want := range map[string]error{"0": nil, "9": unix.EPIPE} {
		p := program.New()
		p.Clone.Signal = 0
		p.Keep(3)
		pid := p.Fork(0, func() {
			exe := p.Address("exe", "/bin/busybox")
			p.Execve(exe, []string{"sh", "-c", "exit " + status}, nil)
		})
		p.Join(pid)
		p.Exit()
		if _, err := spawn(t, p, nil).Next(context.Background()); !errors.Is(err, want) {
			t.Errorf("exit %s: error %v, want %v", status, err, want)
		}
	}
}

func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	plain := dir + "/plain"
	os.WriteFile(plain, nil, 0o644)
	for _, c := range []struct {
		name string
		list []string
		want error
	}{
		{"first that fits", []string{plain, dir, "/bin/busybox"}, nil},
		{"none of several", []string{plain, dir}, unix.ENOENT},
		{"not executable", []string{plain}, unix.EACCES},
		{"a directory", []string{dir}, unix.EISDIR},
		{"missing", []string{dir + "/x"}, unix.ENOENT},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := program.New()
			exe, _ := p.LookPath(c.list)
			p.Execve(exe, []string{"true"}, nil)
			proc := spawn(t, p, nil)
			if _, err := proc.Next(context.Background()); !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
		})
	}
}

func TestMakePath(t *testing.T) {
	for _, c := range []struct {
		name  string
		links map[string]string
		path  string
		file  bool
		want  string // what must exist, below the root
	}{
		{"directories", nil, "a/b/c", false, "a/b/c"},
		{"file", nil, "/a/b/f", true, "a/b/f"},
		{"through a link", map[string]string{"run": "var/run"}, "run/x", false, "var/run/x"},
		{"absolute dangling link", map[string]string{"resolv": "/../run/stub"}, "resolv", true, "run/stub"},
		{"link to a link", map[string]string{"a": "b", "b": "/c/d"}, "a/e", false, "c/d/e"},
		{"dots", nil, "x/./y/../z", false, "x/z"},
		{"up and out", map[string]string{"up": "../../../etc/new"}, "up", false, "etc/new"},
		{"root", nil, "/", false, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			for k, v := range c.links {
				if err := os.Symlink(v, root+"/"+k); err != nil {
					t.Fatal(err)
				}
			}
			p := program.New()
			r, _ := p.Open("root", program.Cwd, root, unix.O_PATH)
			if c.file {
				p.MakeFile("f", r, c.path)
			} else {
				p.MakePath("d", r, c.path, 0)
			}
			p.Exit()
			next(t, spawn(t, p, nil))
			st, err := os.Lstat(root + "/" + c.want)
			if err != nil || st.Mode().IsRegular() != c.file {
				t.Errorf("%v, %v", st, err)
			}
		})
	}
	t.Run("loop", func(t *testing.T) {
		root := t.TempDir()
		os.Symlink("loop", root+"/loop")
		p := program.New()
		r, _ := p.Open("root", program.Cwd, root, unix.O_PATH)
		p.MakePath("d", r, "loop/x", 0)
		p.Exit()
		if _, err := spawn(t, p, nil).Next(context.Background()); !errors.Is(err, unix.ELOOP) {
			t.Errorf("error %v", err)
		}
	})
}
