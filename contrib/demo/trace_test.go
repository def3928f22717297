package main

import (
	"strconv"
	"strings"
	"testing"
	"time"
)

// sample is a start: a request, a call of which client and server tell, and an init
// of many steps.
func sample(steps int) (all []span, root span) {
	zero := time.Unix(1000, 0)
	add := func(id, parent, name string, kind int, from, to time.Duration, attributes ...string) span {
		s := span{Name: name, SpanKind: kind, StartTime: zero.Add(from), EndTime: zero.Add(to)}
		s.SpanContext.TraceID, s.SpanContext.SpanID, s.Parent.SpanID = "t", id, parent
		for i := 0; i < len(attributes); i += 2 {
			a := struct {
				Key   string
				Value struct{ Value any }
			}{Key: attributes[i]}
			a.Value.Value = attributes[i+1]
			s.Attributes = append(s.Attributes, a)
		}
		all = append(all, s)
		return s
	}
	root = add("r", "0", "POST /containers/{name}/start", kindServer, 0, 100*time.Millisecond)
	add("c", "r", "containerd.services.tasks.v1.Tasks/Create", kindClient, 1, 90*time.Millisecond)
	add("s", "c", "containerd.services.tasks.v1.Tasks/Create", kindServer, 2, 80*time.Millisecond)
	add("i", "s", "set up the container", 1, 3, 70*time.Millisecond, "process", "init", "pid", "7")
	for n := range steps {
		at := time.Duration(n) * time.Millisecond
		add("o"+strconv.Itoa(n), "i", "step "+strconv.Itoa(n), 1, at, at+time.Duration(n+1), "process", "init", "call", "close(3)")
	}
	return all, root
}

func TestTell(t *testing.T) {
	all, root := sample(30)
	n := tree(all, root)
	var short, long strings.Builder
	teller{w: &short, names: strings.ToUpper}.tell(n)
	teller{w: &long, all: true, names: strings.ToUpper}.tell(n)
	if lines := strings.Count(short.String(), "\n"); lines != 1+3+slowest+1 {
		t.Errorf("%d lines:\n%s", lines, &short)
	}
	for _, want := range []string{"GRPC CONTAINERD", "STEP 29", "… 20 more steps", "(30 calls)"} {
		if !strings.Contains(short.String(), want) {
			t.Errorf("no %q in\n%s", want, &short)
		}
	}
	if strings.Contains(short.String(), "STEP 3\n") {
		t.Errorf("a quick step is shown:\n%s", &short)
	}
	if lines := strings.Count(long.String(), "\n"); lines != 1+3+30 {
		t.Errorf("%d lines:\n%s", lines, &long)
	}
	pids := map[string]string{}
	if n.pids(pids); pids["init"] != "7" {
		t.Errorf("pids are %v", pids)
	}
}
