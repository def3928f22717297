package boot_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	taskapi "github.com/containerd/containerd/api/runtime/task/v3"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"gantry/api/shimwire"
)

// withStdin keeps stdin open.
func withStdin(r *taskapi.CreateTaskRequest) { r.Stdin = r.Stdout }

func TestStdin(t *testing.T) {
	eachRuntime(t, func(t *testing.T, e *engine) {
		k := e.newTask(t, nil, "sh", "-c", "cat; echo eof")
		k.create(withStdin)
		h := both
		h.Stdin = true
		c := k.attach(h)
		c.Write([]byte("before start\n"))
		k.start("")
		pos := k.until(c, "before start\n")
		c.Close() // stdin stays open
		h.From = &pos
		c = k.attach(h)
		big := bytes.Repeat([]byte("0123456789abcde\n"), 40_000)
		go func() {
			c.Write(big)
			c.CloseStdin()
		}()
		out, _ := k.all(c)
		if out != string(big)+"eof\n" {
			t.Errorf("got %d bytes, ending in %q", len(out), out[max(0, len(out)-20):])
		}
		k.wait("")
		k.remove()
	})
}

func TestCloseIO(t *testing.T) {
	e := newEngine(t, anyRuntime(t))
	k := e.newTask(t, nil, "cat")
	k.create(withStdin)
	k.start("")
	if _, err := k.api.CloseIO(k.ctx, &taskapi.CloseIORequest{ID: k.id, Stdin: true}); err != nil {
		t.Fatal(err)
	}
	if status := k.wait(""); status != 0 {
		t.Errorf("status %d", status)
	}
	k.remove()
}

// TestEarlyCloseIO ends the input of processes as soon as the shim has opened the fifo: of
// the init that is while the call that makes it has not returned, of an exec not before it
// is started.
func TestEarlyCloseIO(t *testing.T) {
	e := newEngine(t, anyRuntime(t))
	k := e.newTask(t, nil, "sh", "-c", "cat; exec sleep 1000")
	ended := make(chan error)
	// feed ends the input of a process the moment that the shim reads it.
	feed := func(exec string) (path string) {
		path = filepath.Join(e.dir, "in"+exec)
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		go func() {
			f, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err == nil {
				err = f.Close()
			}
			if err == nil {
				_, err = k.api.CloseIO(k.ctx, &taskapi.CloseIORequest{ID: k.id, ExecID: exec, Stdin: true})
			}
			ended <- err
		}()
		return path
	}
	in := feed("")
	k.create(func(r *taskapi.CreateTaskRequest) { r.Stdin = in })
	if err := <-ended; err != nil {
		t.Errorf("of the init: %v", err)
	}
	k.start("")
	for i := range 20 {
		id := fmt.Sprint("e", i)
		in := feed(id)
		k.exec(id, func(r *taskapi.ExecProcessRequest) { r.Stdin = in }, "cat")
		select { // ctr could not tell now that it is at its end
		case err := <-ended:
			t.Errorf("%s: input before the start: %v", id, err)
		case <-time.After(time.Millisecond):
		}
		k.start(id)
		if err := <-ended; err != nil {
			t.Errorf("of %s: %v", id, err)
		}
		if status := k.wait(id); status != 0 {
			t.Errorf("%s: status %d", id, status)
		}
	}
	k.kill("", 9)
	k.wait("")
	k.remove()
}

// anyRuntime is for tests of what does not depend on the runtime.
func anyRuntime(*testing.T) string { return "" }

func TestBinaryOutput(t *testing.T) {
	e := newEngine(t, anyRuntime(t))
	k := e.newTask(t, nil, "head", "-c", "3000000", "/bin/busybox")
	want, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatal(err)
	}
	want = want[:min(len(want), 3000000)]
	k.create(nil)
	c := k.attach(both)
	k.start("")
	if out, _ := k.all(c); out != string(want) {
		t.Errorf("attach got %d bytes of %d, or others", len(out), len(want))
	}
	late := k.attach(shimwire.Hello{Stdout: true, From: &shimwire.Position{}})
	if out, _ := k.all(late); out != string(want) {
		t.Errorf("replay got %d bytes of %d, or others", len(out), len(want))
	}
	k.wait("")
	k.remove()
}

func TestTerminal(t *testing.T) {
	eachRuntime(t, func(t *testing.T, e *engine) {
		k := e.newTask(t, func(s *specs.Spec) { s.Process.Terminal = true }, "sh", "-c", "read x; stty size; echo got $x")
		k.create(func(r *taskapi.CreateTaskRequest) { withStdin(r); r.Stderr, r.Terminal = "", true })
		if _, err := k.api.ResizePty(k.ctx, &taskapi.ResizePtyRequest{ID: k.id, Width: 111, Height: 44}); err != nil {
			t.Error(err)
		}
		h := shimwire.Hello{Stdout: true, Stdin: true}
		c := k.attach(h)
		k.start("")
		c.Write([]byte("hello\n"))
		out, _ := k.all(c)
		if !strings.Contains(out, "44 111\r\n") || !strings.HasSuffix(out, "got hello\r\n") {
			t.Errorf("got %q", out)
		}
		k.wait("")
		k.remove()
	})
}

func TestExecTerminal(t *testing.T) {
	eachRuntime(t, func(t *testing.T, e *engine) {
		k := e.newTask(t, nil, "sleep", "1000")
		k.create(nil)
		k.start("")
		k.exec("e", func(r *taskapi.ExecProcessRequest) { r.Terminal, r.Stdin, r.Stderr = true, r.Stdout, "" }, "sh", "-c", "tty >/dev/null && read x && echo got $x")
		c := k.attach(shimwire.Hello{Proc: "e", Stdout: true, Stdin: true})
		k.start("e")
		c.Write([]byte("hello\n"))
		if out, _ := k.all(c); !strings.HasSuffix(out, "got hello\r\n") {
			t.Errorf("got %q", out)
		}
		if status := k.wait("e"); status != 0 {
			t.Errorf("status %d", status)
		}
		k.kill("", 9)
		k.wait("")
		k.remove()
	})
}

// TestUnreadExec pins that an exec nobody reads ends, and keeps its last words.
func TestUnreadExec(t *testing.T) {
	e := newEngine(t, anyRuntime(t))
	k := e.newTask(t, nil, "sleep", "1000")
	k.create(nil)
	k.start("")
	k.exec("e", nil, "seq", "1", "200000")
	k.start("e")
	if status := k.wait("e"); status != 0 {
		t.Errorf("status %d", status)
	}
	c := k.attach(shimwire.Hello{Proc: "e", Stdout: true})
	out, _ := k.all(c)
	if !strings.HasSuffix(out, "\n199999\n200000\n") || len(out) > 64<<10 || len(out) < 32<<10 {
		t.Errorf("got %d bytes", len(out))
	}
	k.kill("", 9)
	k.wait("")
	k.remove()
}

// TestEngineDies kills the receiver of events and all clients while the
// container writes, and takes up where the log was left.
func TestEngineDies(t *testing.T) {
	eachRuntime(t, func(t *testing.T, e *engine) {
		k := e.newTask(t, nil, "sh", "-c", "i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done; exit 5")
		k.create(func(r *taskapi.CreateTaskRequest) {
			r.Stdout = shimwire.LogURI{Path: k.log, Socket: k.socket, MaxSize: 50 << 10, MaxFile: 100}.String()
			r.Stderr = r.Stdout
		})
		follow := k.attach(shimwire.Hello{Stdout: true, Stderr: true, Lines: true})
		k.start("")
		e.await(t, "create", "start")
		var text strings.Builder
		var pos shimwire.Position
		for !strings.Contains(text.String(), "line 100\n") {
			f, err := follow.Read()
			if err != nil {
				t.Fatal(err)
			}
			text.Write(f.Data)
			pos = f.Pos
		}
		e.die()
		follow.Close()
		k.client.Close()

		e.serve(t)
		address, err := os.ReadFile(filepath.Join(k.bundle, "address"))
		if err != nil {
			t.Fatal(err)
		}
		k.dial(string(address))
		follow = k.attach(shimwire.Hello{Stdout: true, Stderr: true, Lines: true, From: &pos})
		rest, _ := k.all(follow)
		var want strings.Builder
		for i := range 3000 {
			fmt.Fprintf(&want, "line %d\n", i)
		}
		if text.String()+rest != want.String() {
			t.Errorf("got %d bytes and %d, want %d", text.Len(), len(rest), want.Len())
		}
		if status := k.wait(""); status != 5 {
			t.Errorf("status %d", status)
		}
		k.remove()
		e.await(t, "create", "start", "exit init 5", "delete")
	})
}

// TestShimDies pins what delete leaves after a killed shim: nothing.
func TestShimDies(t *testing.T) {
	eachRuntime(t, func(t *testing.T, e *engine) {
		k := e.newTask(t, nil, "sleep", "1000")
		k.create(nil)
		k.start("")
		st, err := k.api.State(k.ctx, &taskapi.StateRequest{ID: k.id})
		if err != nil {
			t.Fatal(err)
		}
		k.clean()
		k.deleted = true
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", st.Pid))
			if err != nil || bytes.Contains(stat, []byte(") Z ")) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatal("the container outlives its shim's deletion")
			}
		}
	})
}

// TestHeldPipe pins that a process which keeps an exec's output open does not
// keep the exec from ending.
func TestHeldPipe(t *testing.T) {
	e := newEngine(t, anyRuntime(t))
	k := e.newTask(t, nil, "sleep", "1000")
	k.create(nil)
	k.start("")
	k.exec("e", nil, "sh", "-c", "sleep 1000 & echo done")
	c := k.attach(shimwire.Hello{Proc: "e", Stdout: true, Stderr: true})
	began := time.Now()
	k.start("e")
	if out, _ := k.all(c); out != "done\n" {
		t.Errorf("got %q", out)
	}
	if status := k.wait("e"); status != 0 || time.Since(began) > 20*time.Second {
		t.Errorf("status %d after %v", status, time.Since(began))
	}
	k.kill("", 9)
	k.wait("")
	k.remove()
}

func TestAttachErrors(t *testing.T) {
	e := newEngine(t, anyRuntime(t))
	k := e.newTask(t, nil, "sleep", "1000")
	k.create(nil)
	if _, err := shimwire.Dial(k.ctx, k.socket, shimwire.Hello{Proc: "nope"}); !errdefs.IsNotFound(err) {
		t.Errorf("unknown exec: %v", err)
	}
	if _, err := shimwire.Dial(k.ctx, k.socket, shimwire.Hello{Stdin: true}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("no stdin: %v", err)
	}
	if _, err := shimwire.Dial(k.ctx, k.socket+"x", shimwire.Hello{}); !errdefs.IsUnavailable(err) {
		t.Errorf("no socket: %v", err)
	}
	k.remove()
}

func TestHoldPorts(t *testing.T) {
	e := newEngine(t, anyRuntime(t))
	k := e.newTask(t, nil, "sleep", "1000")
	k.create(nil)
	var held []shimwire.Port
	var addr string
	for range 300 { // more than one message takes
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr = l.Addr().String()
		f, err := l.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		defer f.Close()
		held = append(held, shimwire.Port{File: f, Proto: "tcp"})
	}
	if err := shimwire.HoldPorts(k.ctx, k.socket, held); err != nil {
		t.Fatal(err)
	}
	for _, p := range held {
		p.File.Close()
	}
	if l, err := net.Listen("tcp", addr); err == nil {
		l.Close()
		t.Error("a held port is free")
	}
	if err := shimwire.HoldPorts(k.ctx, k.socket, []shimwire.Port{{File: os.Stdin, Proto: "tcp"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("no socket: %v", err)
	}
	if err := shimwire.ReleasePorts(k.ctx, k.socket); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatalf("released: %v", err)
	}
	f, _ := l.(*net.TCPListener).File()
	l.Close()
	if err := shimwire.HoldPorts(k.ctx, k.socket, []shimwire.Port{{File: f, Proto: "tcp"}}); err != nil {
		t.Fatal(err)
	}
	f.Close()
	k.remove()
	if l, err = net.Listen("tcp", addr); err != nil {
		t.Fatalf("after delete: %v", err)
	}
	l.Close()
}

// TestFifos drives a task as containerd's own clients do.
func TestFifos(t *testing.T) {
	eachRuntime(t, func(t *testing.T, e *engine) {
		k := e.newTask(t, nil, "sh", "-c", "cat; echo err >&2")
		paths := map[string]string{}
		for _, name := range []string{"stdin", "stdout", "stderr"} {
			paths[name] = filepath.Join(e.dir, name)
			if err := unix.Mkfifo(paths[name], 0o600); err != nil {
				t.Fatal(err)
			}
		}
		open := func(name string, flag int) *os.File {
			f, err := os.OpenFile(paths[name], flag|unix.O_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { f.Close() })
			return f
		}
		out, errs := open("stdout", os.O_RDONLY), open("stderr", os.O_RDONLY)
		k.create(func(r *taskapi.CreateTaskRequest) {
			r.Stdin, r.Stdout, r.Stderr = paths["stdin"], paths["stdout"], paths["stderr"]
		})
		in := open("stdin", os.O_WRONLY)
		k.start("")
		if _, err := in.WriteString("hello\n"); err != nil {
			t.Fatal(err)
		}
		in.Close()
		if _, err := k.api.CloseIO(k.ctx, &taskapi.CloseIORequest{ID: k.id, Stdin: true}); err != nil {
			t.Fatal(err)
		}
		if status := k.wait(""); status != 0 {
			t.Errorf("status %d", status)
		}
		for want, f := range map[string]*os.File{"hello\n": out, "err\n": errs} {
			f.SetReadDeadline(time.Now().Add(10 * time.Second))
			if got, err := io.ReadAll(f); err != nil || string(got) != want {
				t.Errorf("got %q, %v, want %q", got, err, want)
			}
		}
		if _, err := k.api.Delete(k.ctx, &taskapi.DeleteRequest{ID: k.id}); err != nil {
			t.Fatal(err)
		}
		k.api.Shutdown(k.ctx, &taskapi.ShutdownRequest{ID: k.id})
		k.deleted = true
	})
}

func TestLogDrivers(t *testing.T) {
	e := newEngine(t, anyRuntime(t))
	t.Run("none", func(t *testing.T) {
		k := e.newTask(t, nil, "seq", "1", "100000")
		k.create(func(r *taskapi.CreateTaskRequest) {
			r.Stdout = shimwire.LogURI{Socket: k.socket, Driver: shimwire.DriverNone}.String()
			r.Stderr = r.Stdout
		})
		c := k.attach(both)
		k.start("")
		if out, _ := k.all(c); len(out) != 588895 {
			t.Errorf("got %d bytes", len(out))
		}
		k.wait("")
		k.remove()
	})
	t.Run("file", func(t *testing.T) {
		k := e.newTask(t, nil, "echo", "hello")
		k.create(func(r *taskapi.CreateTaskRequest) { r.Stdout, r.Stderr = "file://"+k.log, "" })
		k.start("")
		k.wait("")
		if raw, err := os.ReadFile(k.log); err != nil || string(raw) != "hello\n" {
			t.Errorf("got %q, %v", raw, err)
		}
		k.remove()
	})
	t.Run("binary", func(t *testing.T) {
		logger := filepath.Join(e.dir, "logger")
		script := fmt.Sprintf("#!/bin/sh\nexec 5>&-\ncat <&3 >%s\n", k0(e))
		if err := os.WriteFile(logger, []byte(script), 0o755); err != nil {
			t.Fatal(err)
		}
		k := e.newTask(t, nil, "echo", "hello")
		k.create(func(r *taskapi.CreateTaskRequest) { r.Stdout = "binary://" + logger; r.Stderr = r.Stdout })
		k.start("")
		k.wait("")
		k.remove()
		for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(2 * time.Millisecond) {
			raw, err := os.ReadFile(k0(e))
			if string(raw) == "hello\n" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("got %q, %v", raw, err)
			}
		}
	})
	t.Run("bad", func(t *testing.T) {
		k := e.newTask(t, nil, "true")
		for _, uri := range []string{"gopher://x", "gantry-log:///x", filepath.Join(e.dir, "missing")} {
			if _, err := k.api.Create(k.ctx, &taskapi.CreateTaskRequest{ID: k.id, Bundle: k.bundle, Stdout: uri, Options: k.options()}); err == nil {
				t.Errorf("create with %q succeeded", uri)
			}
		}
		k.api.Shutdown(k.ctx, &taskapi.ShutdownRequest{ID: k.id})
	})
}

func k0(e *engine) string { return filepath.Join(e.dir, "logged") }

// TestLogRace lets clients come and go while the container writes and ends.
func TestLogRace(t *testing.T) {
	e := newEngine(t, anyRuntime(t))
	k := e.newTask(t, nil, "seq", "1", "300000")
	k.create(nil)
	k.start("")
	results := make(chan error, 8)
	for range cap(results) {
		go func() {
			c, err := shimwire.Dial(k.ctx, k.socket, shimwire.Hello{Stdout: true, From: &shimwire.Position{}})
			if err != nil {
				results <- err
				return
			}
			defer c.Close()
			n := 0
			for {
				f, err := c.Read()
				if errors.Is(err, io.EOF) && n == 1988895 {
					err = nil
				} else if err == nil {
					n += len(f.Data)
					continue
				}
				if err != nil {
					err = fmt.Errorf("after %d bytes: %w", n, err)
				}
				results <- err
				return
			}
		}()
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	k.wait("")
	k.remove()
}
