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

// TestSoakLogsOverDeaths follows the log of a container that writes much, while the
// daemon is killed again and again: each new follower finds what the one before has read,
// and more, and the last one every line once.
func TestSoakLogsOverDeaths(t *testing.T) {
	e := start(t)
	lines, kills := scale(2_000_000, 60_000), scale(20, 3) // of 100 bytes
	const script = `BEGIN { for (i = 0; i < n; i++) printf "%099d\n", i }`
	id := e.Must("run", "-d", "--name", "big", "--log-opt", "max-size=10m", "--log-opt", "max-file=60", image,
		"awk", "-v", "n="+itoa(lines), script)
	pid := inspect(t, e, "big").State.Pid
	for have, deaths := 0, 0; have < lines; {
		end := lines
		if deaths < kills {
			end = have + (lines-have)/(kills-deaths+1)
		}
		body, err := open(e, "GET", "/containers/"+id+"/logs?follow=1&stdout=1")
		if err != nil {
			t.Fatal(err)
		}
		n, err := count(body, func(i int) {
			if i == end && end < lines {
				e.Kill()
			}
		})
		switch {
		case n < have:
			t.Fatalf("after %d deaths %d lines, and %d before: %v", deaths, n, have, err)
		case n < lines && deaths == kills:
			t.Fatalf("%d lines of %d: %v\n%s", n, lines, err, e.Log())
		case n < lines:
			deaths++
			e.Launch()
		}
		have = n
	}
	if got := e.Must("wait", "big"); got != "0" {
		t.Errorf("exit code %s", got)
	}
	if now := inspect(t, e, "big"); now.RestartCount != 0 || now.State.Pid != 0 && now.State.Pid != pid {
		t.Errorf("it was started anew: %+v", now.State)
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
	i, err := count(body, func(i int) {
		if i%100 == 0 {
			time.Sleep(pause)
		}
	})
	if i != n {
		return fmt.Errorf("%d lines of %d, %v", i, n, err)
	}
	return err
}

// count reads framed lines that count from 0, calls each with how many there are so far,
// and returns how many there were before the stream ended or broke off.
func count(body io.ReadCloser, each func(int)) (n int, err error) {
	defer body.Close()
	pr, pw := io.Pipe()
	defer pr.Close()
	go func() { // ends with the stream, or with pr
		_, err := stdcopy.StdCopy(pw, io.Discard, body)
		pw.CloseWithError(err)
	}()
	s := bufio.NewScanner(pr)
	for s.Scan() {
		line := s.Text()
		if len(line) < 99 { // cut off
			return n, s.Err()
		}
		if len(line) != 99 || strings.TrimLeft(line, "0") != strings.TrimLeft(itoa(n), "0") {
			return n, fmt.Errorf("line %d is %q", n, line)
		}
		n++
		each(n)
	}
	return n, s.Err()
}
