package integrationcli

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/backend"

	"gantry/internal/testutil/engine"
)

// newExec makes an exec and returns its id.
func newExec(t *testing.T, e *engine.Engine, ref string, o object) string {
	t.Helper()
	text, err := want(e, 201, "POST", "/containers/"+ref+"/exec", o)
	if err != nil {
		t.Fatal(err)
	}
	return field(text, "Id")
}

func inspectExec(t *testing.T, e *engine.Engine, id string) (x backend.ExecInspect) {
	t.Helper()
	text, err := want(e, 200, "GET", "/exec/"+id+"/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), &x); err != nil {
		t.Fatal(err)
	}
	return x
}

// expect makes a request that must be answered with status and message.
func expect(t *testing.T, e *engine.Engine, status int, message, method, path string, body any) {
	t.Helper()
	got, text, err := ask(e, method, path, body)
	if err != nil || got != status || field(text, "message") != message {
		t.Errorf("%s %s: %d %s, %v; want %d %q", method, path, got, text, err, status, message)
	}
}

func TestExecOptions(t *testing.T) {
	t.Parallel()
	e := start(t)
	e.Must("run", "-d", "--name", "c1", "--network", "none", "-e", "FROM=container", "-w", "/etc", "-u", "tester", "--group-add", "1234", image, "sleep", "1000")
	run(t, e, nil)
	for _, r := range []row{
		{name: "user of the container", args: []string{"exec", "c1", "sh", "-c", "id -un; id -G; pwd; echo $HOME"}, out: "tester\n1000 50 1234\n/etc\n/home/tester"},
		{name: "another user", args: []string{"exec", "-u", "0:7", "c1", "sh", "-c", "id -u; id -g; echo $HOME"}, out: "0\n7\n/root"},
		{name: "user that is not there", args: []string{"exec", "-u", "nobody-here", "c1", "true"}, code: 1, err: "…unable to find user nobody-here: no matching entries in passwd file"},
		{name: "environment", args: []string{"exec", "-e", "FROM=exec", "-e", "NEW=1", "c1", "sh", "-c", "echo $FROM $NEW $HOSTNAME-"}, out: "exec 1 …"},
		{name: "privileged", args: []string{"exec", "--privileged", "-u", "0", "c1", "grep", "CapBnd", "/proc/self/status"}, out: "CapBnd:\t000001ff…"},
		{name: "relative directory", args: []string{"exec", "-w", "tmp", "c1", "pwd"}, code: 126},
		{name: "half close", args: []string{"exec", "-i", "c1", "sh", "-c", "cat; echo after"}, stdin: "in\n", out: "in\nafter"},
		{name: "detach keys that are none", args: []string{"exec", "-it", "--detach-keys", "ctrl-", "c1", "true"}, code: 1},
		{name: "a directory", args: []string{"exec", "c1", "/etc"}, code: 126},
		{name: "killed", args: []string{"exec", "c1", "sh", "-c", "kill -9 $$"}, code: 137},
	} {
		t.Run(r.name, func(t *testing.T) {
			got := e.DockerIn(r.stdin, r.args...)
			if got.Code != r.code {
				t.Errorf("exit %d, want %d: %+v", got.Code, r.code, got)
			}
			compare(t, "stdout", got.Stdout, r.out)
			compare(t, "stderr", got.Stderr, r.err)
		})
	}
}

// TestExecAnswers: dockerd's statuses and words over an exec's life.
func TestExecAnswers(t *testing.T) {
	t.Parallel()
	e := start(t)
	id := strings.TrimSpace(e.Must("run", "-d", "--name", "c1", "--network", "none", image, "sleep", "1000"))
	expect(t, e, 404, "No such container: nope", "POST", "/containers/nope/exec", object{"Cmd": []string{"x"}})
	expect(t, e, 400, "No exec command specified", "POST", "/containers/c1/exec", object{})
	expect(t, e, 500, "Invalid escape keys (ctrl-) provided", "POST", "/containers/c1/exec", object{"Cmd": []string{"x"}, "DetachKeys": "ctrl-"})
	expect(t, e, 404, "No such exec instance: nope", "POST", "/exec/nope/start", object{})
	expect(t, e, 404, "No such exec instance: nope", "GET", "/exec/nope/json", nil)
	expect(t, e, 404, "No such exec instance: nope", "POST", "/exec/nope/resize?h=1&w=1", nil)

	x := newExec(t, e, "c1", object{"Cmd": []string{"sh", "-c", "exit 6"}, "AttachStdout": true, "User": "tester", "DetachKeys": "ctrl-x"})
	if in := inspectExec(t, e, x); in.Running || in.ExitCode != nil || in.Pid != 0 || in.ContainerID != id || in.CanRemove ||
		!in.OpenStdout || in.OpenStdin || string(in.DetachKeys) != "\x18" || in.ProcessConfig.Entrypoint != "sh" ||
		!slices.Equal(in.ProcessConfig.Arguments, []string{"-c", "exit 6"}) || in.ProcessConfig.User != "tester" {
		t.Errorf("created: %+v %+v", in, in.ProcessConfig)
	}
	compare(t, "ExecIDs", e.Must("inspect", "-f", "{{.ExecIDs}}", "c1"), "["+x+"]")
	if _, err := want(e, 200, "POST", "/exec/"+x+"/start", object{"Detach": true}); err != nil {
		t.Error(err)
	}
	eventually(t, "the exec has ended", func() bool { return inspectExec(t, e, x).ExitCode != nil })
	if in := inspectExec(t, e, x); in.Running || *in.ExitCode != 6 || in.Pid == 0 {
		t.Errorf("ended: %+v", in)
	}
	compare(t, "ExecIDs", e.Must("inspect", "-f", "{{.ExecIDs}}", "c1"), "[]")
	expect(t, e, 409, "exec command "+x+" has already run", "POST", "/exec/"+x+"/start", object{"Detach": true})
	if out, err := want(e, 200, "POST", "/exec/"+x+"/start", object{"Tty": true}); err != nil || out != "exec command "+x+" has already run\r\n" {
		t.Errorf("started twice: %q, %v", out, err)
	}

	lost := newExec(t, e, "c1", object{"Cmd": []string{"nowhere"}, "AttachStdout": true})
	expect(t, e, 400, `OCI runtime exec failed: exec failed: unable to start container process: exec: "nowhere": executable file not found in $PATH`, "POST", "/exec/"+lost+"/start", object{"Detach": true})
	if in := inspectExec(t, e, lost); in.Running || in.ExitCode == nil || *in.ExitCode != 127 {
		t.Errorf("not found: %+v", in)
	}
	expect(t, e, 400, "exec process is not started", "POST", "/exec/"+lost+"/resize?h=1&w=1", nil)

	never := newExec(t, e, "c1", object{"Cmd": []string{"true"}})
	e.Must("pause", "c1")
	expect(t, e, 409, "Container c1 is paused, unpause the container before exec", "POST", "/containers/c1/exec", object{"Cmd": []string{"x"}})
	expect(t, e, 409, "Container "+id+" is paused, unpause the container before exec", "POST", "/exec/"+never+"/start", object{})
	e.Must("unpause", "c1")
	e.Must("kill", "c1")
	e.Must("wait", "c1")
	expect(t, e, 409, "container "+id+" is not running", "POST", "/containers/c1/exec", object{"Cmd": []string{"x"}})
	expect(t, e, 409, "container "+id+" is not running", "POST", "/exec/"+x+"/start", object{"Detach": true})
	expect(t, e, 404, "No such exec instance: "+never, "GET", "/exec/"+never+"/json", nil)
	inspectExec(t, e, x) // is known for a while
	e.Must("rm", "c1")
	expect(t, e, 404, "No such exec instance: "+x, "GET", "/exec/"+x+"/json", nil)
}

// TestExecTTY: the size that is asked for at the start is there at the start, and keys
// of the exec's own leave it.
func TestExecTTY(t *testing.T) {
	t.Parallel()
	e := start(t)
	e.Must("run", "-d", "--name", "c1", "--network", "none", image, "sleep", "1000")
	since := fmt.Sprint(time.Now().Unix() - 1)
	for name, row := range map[string]struct{ create, start, want string }{
		"of the create": {`[40, 100]`, `null`, "40 100"},
		"of the start":  {`[40, 100]`, `[30, 90]`, "30 90"},
	} {
		x := newExec(t, e, "c1", object{"Cmd": []string{"stty", "size"}, "Tty": true, "AttachStdout": true, "ConsoleSize": json.RawMessage(row.create)})
		out, err := want(e, 200, "POST", "/exec/"+x+"/start", object{"Tty": true, "ConsoleSize": json.RawMessage(row.start)})
		if err != nil || out != row.want+"\r\n" {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
	x := newExec(t, e, "c1", object{"Cmd": []string{"cat"}, "Tty": true, "AttachStdin": true, "AttachStdout": true, "DetachKeys": "ctrl-x,y"})
	conn, err := net.Dial("unix", e.Socket())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := `{"Tty":true}`
	fmt.Fprintf(conn, "POST /v1.51/exec/%s/start HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", x, len(body), body)
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(conn, "typed\n")
	all := bufio.NewReader(conn)
	for line := ""; line != "typed\r\n"; {
		if line, err = all.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	io.WriteString(conn, "\x18y")
	if _, err := io.ReadAll(all); err != nil { // ends with the detachment
		t.Error(err)
	}
	if in := inspectExec(t, e, x); !in.Running {
		t.Errorf("the exec has ended with its client: %+v", in)
	}
	told := e.Must("events", "--since", since, "--until", fmt.Sprint(time.Now().Unix()+1), "--filter", "event=exec_detach", "--format", "{{.Action}}")
	compare(t, "events", told, "exec_detach")
}

// TestExecOutlivesEngine: an exec that runs when the engine dies is known to the next
// one, ends with its own code, and nothing of it stays in the shim.
func TestExecOutlivesEngine(t *testing.T) {
	t.Parallel()
	e := start(t)
	e.Must("run", "-d", "--name", "c1", "--network", "none", image, "sleep", "1000")
	fifo := newExec(t, e, "c1", object{"Cmd": []string{"sh", "-c", "mkfifo /f; cat /f; exit 9"}, "Tty": true})
	early := newExec(t, e, "c1", object{"Cmd": []string{"sh", "-c", "while [ ! -e /go ]; do sleep 0.1; done; exit 5"}})
	for _, x := range []string{fifo, early} {
		if _, err := want(e, 200, "POST", "/exec/"+x+"/start", object{"Detach": true}); err != nil {
			t.Fatal(err)
		}
	}
	pid := inspectExec(t, e, fifo).Pid
	root := fmt.Sprintf("/proc/%s/root", initOf(e, "c1"))
	e.Kill()
	if err := os.WriteFile(root+"/go", nil, 0o644); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond) // the second ends unseen
	e.Launch()
	in := inspectExec(t, e, fifo)
	if !in.Running || in.Pid != pid || in.ProcessConfig.Entrypoint != "sh" || !in.ProcessConfig.Tty {
		t.Errorf("taken up: %+v %+v", in, in.ProcessConfig)
	}
	eventually(t, "the exec that ended unseen has its code", func() bool {
		code := inspectExec(t, e, early).ExitCode
		return code != nil && *code == 5
	})
	compare(t, "ExecIDs", e.Must("inspect", "-f", "{{.ExecIDs}}", "c1"), "["+fifo+"]")
	e.Must("exec", "c1", "sh", "-c", "echo > /f")
	eventually(t, "the exec has ended", func() bool {
		code := inspectExec(t, e, fifo).ExitCode
		return code != nil && *code == 9
	})
	compare(t, "ExecIDs", e.Must("inspect", "-f", "{{.ExecIDs}}", "c1"), "[]")
}
