package integrationcli

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/pkg/stdcopy"

	"gantry/internal/testutil/engine"
)

// TestSoakStreams has a container write much, to two attached clients and two that
// follow its log, of which one is slow; each gets every byte. The log is rotated on
// the way.
func TestSoakStreams(t *testing.T) {
	e := start(t)
	lines := scale(2_000_000, 80_000) // of 100 bytes
	const script = `BEGIN { for (i = 0; i < n; i++) printf "%099d\n", i }`
	id := e.Must("create", "--name", "big", "--log-opt", "max-size=10m", "--log-opt", "max-file=60", image,
		"awk", "-v", "n="+itoa(lines), script)
	type reader struct {
		name, path string
		pause      time.Duration
	}
	readers := make(chan error)
	read := func(method string, r reader) {
		body, err := open(e, method, r.path)
		go func() {
			if err == nil {
				err = numbered(body, lines, r.pause)
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", r.name, err)
			}
			readers <- err
		}()
	}
	read("POST", reader{name: "attach", path: "/containers/" + id + "/attach?stream=1&stdout=1&stderr=1"})
	read("POST", reader{name: "second attach", path: "/containers/" + id + "/attach?stream=1&stdout=1&stderr=1"})
	e.Must("start", "big")
	read("GET", reader{name: "logs -f", path: "/containers/" + id + "/logs?follow=1&stdout=1"})
	read("GET", reader{name: "slow logs -f", path: "/containers/" + id + "/logs?follow=1&stdout=1", pause: 100 * time.Microsecond})
	for range 4 {
		select {
		case err := <-readers:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Minute):
			t.Fatalf("a reader does not come to its end\n%s", e.Log())
		}
	}
	read("GET", reader{name: "logs", path: "/containers/" + id + "/logs?stdout=1"})
	if err := <-readers; err != nil {
		t.Error(err)
	}
	if got := e.Must("wait", "big"); got != "0" {
		t.Errorf("exit code %s", got)
	}
}

// open makes a request whose answer is a stream, and returns it from its first frame.
func open(e *engine.Engine, method, path string) (io.ReadCloser, error) {
	conn, err := net.Dial("unix", e.Socket())
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(method, "http://gantry/v1.51"+path, nil)
	if err != nil {
		return nil, err
	}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	r, err := http.ReadResponse(bufio.NewReaderSize(conn, 1<<16), req)
	if err != nil {
		return nil, err
	}
	if r.StatusCode != http.StatusOK {
		raw, _ := io.ReadAll(r.Body)
		return nil, fmt.Errorf("status %d: %s", r.StatusCode, raw)
	}
	return r.Body, nil
}

// numbered reads framed lines that count from 0 to n, pausing now and then.
func numbered(body io.ReadCloser, n int, pause time.Duration) error {
	defer body.Close()
	pr, pw := io.Pipe()
	go func() {
		_, err := stdcopy.StdCopy(pw, io.Discard, body)
		pw.CloseWithError(err)
	}()
	i := 0
	s := bufio.NewScanner(pr)
	for ; s.Scan(); i++ {
		if line := s.Text(); len(line) != 99 || strings.TrimLeft(line, "0") != strings.TrimLeft(itoa(i), "0") {
			pr.Close()
			return fmt.Errorf("line %d is %q", i, line)
		}
		if i%100 == 0 {
			time.Sleep(pause)
		}
	}
	if i != n {
		return fmt.Errorf("%d lines of %d, %v", i, n, s.Err())
	}
	return nil
}
