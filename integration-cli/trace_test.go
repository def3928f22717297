package integrationcli

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/internal/testutil/engine"
)

// traced is what is used of a span in the trace file.
type traced struct {
	Name        string
	SpanKind    int // 2 is a server's
	SpanContext struct{ TraceID, SpanID string }
	Parent      struct{ SpanID string }
	StartTime   time.Time
	EndTime     time.Time
	Attributes  []struct {
		Key   string
		Value struct{ Value any }
	}
}

func (s traced) process() string {
	for _, a := range s.Attributes {
		if a.Key == "process" {
			return a.Value.Value.(string)
		}
	}
	return "gantryd"
}

// TestTrace: a start is one connected tree of spans, from the HTTP request to the
// execve of the container's first process.
func TestTrace(t *testing.T) {
	engine.CoreInside(t, "its spans are not with the engine's")
	file := filepath.Join(t.TempDir(), "trace")
	t.Setenv("GANTRY_TRACE_FILE", file)
	e := start(t)
	run(t, e, []row{{name: "run", args: sh("true", "-p", "127.0.0.1::80")}})
	e.Terminate() // now every span is written
	all := readTrace(t, file)
	e.Launch()

	spans := map[string]traced{}
	var root traced
	for _, s := range all {
		if s.Name == "POST /containers/{name}/start" {
			root = s
		}
	}
	for _, s := range all {
		if s.SpanContext.TraceID == root.SpanContext.TraceID {
			spans[s.SpanContext.SpanID] = s
		}
	}
	names, processes := map[string]bool{}, map[string]int{}
	for id, s := range spans {
		names[s.Name] = true
		processes[s.process()]++
		parent, ok := spans[s.Parent.SpanID]
		if !ok && id != root.SpanContext.SpanID {
			t.Errorf("%q has no parent", s.Name)
		}
		// A server's span ends when its answer is out, which may be after the client's.
		if ok && (s.StartTime.Before(parent.StartTime) || s.EndTime.After(parent.EndTime) && s.SpanKind != 2 && parent.SpanKind != 2) {
			t.Errorf("%q %v–%v is not within %q %v–%v", s.Name, s.StartTime, s.EndTime, parent.Name, parent.StartTime, parent.EndTime)
		}
	}
	for _, want := range []string{
		"allocate network", "build specification", "containerd.services.tasks.v1.Tasks/Create", "launch shim",
		"containerd.task.v3.Task/Create", "shim create", "runtime create", "compile program", "clone init", "set up the container",
		"hand over published ports", "containerd.task.v3.Task/Start", "shim start", "release init", "become the command", "commit state running",
	} {
		if !names[want] {
			t.Errorf("no span %q", want)
		}
	}
	last := false
	for name := range names {
		last = last || strings.Contains(name, "exec sh")
	}
	if !last {
		t.Error("no span of execve")
	}
	if processes["gantryd"] < 10 || processes["shim"] < 5 || processes["init"] < 100 {
		t.Errorf("spans of processes: %v", processes)
	}
}

func readTrace(t *testing.T, path string) (all []traced) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for d := json.NewDecoder(f); ; {
		var s traced
		if err := d.Decode(&s); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
}
