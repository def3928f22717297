package integrationcli

import (
	"encoding/json"
	"net"
	"testing"

	"gantry/internal/testutil/transcript"
)

// TestTranscripts holds a live engine to what the wire must say; the routes' own
// transcripts pin the handlers alone.
func TestTranscripts(t *testing.T) {
	e := start(t)
	up := e.Must("run", "-d", "--name", "up", image, "sleep", "1000")
	down := e.Must("create", "--name", "down", image, "sh", "-c", "echo out; sleep 0.2; echo err >&2; exit 3")
	e.Docker("start", "-a", "down")
	frozen := e.Must("run", "-d", "--name", "frozen", image, "sleep", "1000")
	e.Must("pause", "frozen")
	e.Must("run", "-t", "--name", "term", image, "sh", "-c", "echo out; echo err >&2")
	term := e.Must("inspect", "-f", "{{.Id}}", "term")
	e.Must("run", "--name", "unlogged", "--log-driver", "none", image, "true")
	e.Must("create", "--name", "never", image, "true")
	e.Must("create", "-i", "--name", "once", image, "cat")
	e.Must("start", "once")
	_, made := do(t, e, "POST", "/containers/up/exec", `{"Cmd":["sh","-c","cat; exit 3"],"AttachStdin":true,"AttachStdout":true}`)
	var exec struct{ ID string }
	if err := json.Unmarshal([]byte(made), &exec); err != nil {
		t.Fatal(err, made)
	}
	dial := func() (net.Conn, error) { return net.Dial("unix", e.Socket()) }
	transcript.Run(t, dial, "testdata/*.txt", transcript.Names{
		"up": up, "down": down, "frozen": frozen, "term": term, "exec": exec.ID, "image": e.Must("inspect", "-f", "{{.Id}}", image),
		"bridge": e.Must("network", "inspect", "-f", "{{.Id}}", "bridge"),
	})
	if s := status(e, "up") + status(e, "down") + status(e, "frozen"); s != "runningexitedpaused" {
		t.Errorf("the refused requests have changed something: %s", s)
	}
}
