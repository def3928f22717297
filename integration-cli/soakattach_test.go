package integrationcli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/pkg/stdcopy"

	"gantry/internal/testutil/engine"
)

// TestSoakAttach lets clients come to a container that writes, and go at random moments.
// Each gets lines without a gap and without a double: from the first on when it asks for
// what was logged, else from some line on. Clients that read nothing hold up nobody.
func TestSoakAttach(t *testing.T) {
	e := start(t)
	lines, at, clients := scale(400_000, 4_000), scale(1000, 20), scale(32, 6)
	script := fmt.Sprintf(`BEGIN { for (i = 0; i < %d; i++) { printf "%%099d\n", i; if (i %% %d == 0) { fflush(); system("usleep 5000") } } }`, lines, at)
	id := e.Must("create", "--name", "c1", image, "awk", script)
	query := map[bool]string{true: "logs=1&stream=1&stdout=1", false: "stream=1&stdout=1"}
	var deaf []io.Closer
	for range 3 {
		c, _, err := attachTo(e, id, query[false])
		if err != nil {
			t.Fatal(err)
		}
		deaf = append(deaf, c)
	}
	e.Must("start", "c1")
	seed := uint64(time.Now().UnixNano())
	t.Log("seed", seed)
	var all sync.WaitGroup
	ended := make(chan struct{})
	for i := range clients {
		all.Go(func() {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			for {
				select {
				case <-ended:
					return
				default:
				}
				logs := r.IntN(2) == 0
				if err := visit(e, id, query[logs], logs, time.Duration(r.IntN(400))*time.Millisecond); err != nil {
					t.Errorf("seed %d, client %d: %v", seed, i, err)
					return
				}
			}
		})
	}
	if got := e.Must("wait", "c1"); got != "0" {
		t.Errorf("exit code %s", got)
	}
	close(ended)
	for _, c := range deaf {
		c.Close()
	}
	all.Wait()
	body, err := open(e, "GET", "/containers/"+id+"/logs?stdout=1")
	if err != nil {
		t.Fatal(err)
	}
	if err := numbered(body, lines, 0); err != nil {
		t.Error(err)
	}
}

// visit is one attachment that lasts for d, or to the end of the container.
func visit(e *engine.Engine, id, query string, first bool, d time.Duration) error {
	conn, out, err := attachTo(e, id, query)
	if err != nil {
		return err
	}
	defer conn.Close()
	time.AfterFunc(d, func() { conn.Close() })
	s := bufio.NewScanner(out)
	if !first && !s.Scan() { // begins anywhere
		return nil
	}
	next, known, cut := 0, first, ""
	for s.Scan() {
		if cut != "" {
			return fmt.Errorf("after line %d: %q", next, cut)
		}
		var n int
		if _, err := fmt.Sscanf(s.Text(), "%d", &n); err != nil || len(s.Text()) != 99 {
			cut = s.Text() // by our leaving, if nothing follows
			continue
		}
		if known && n != next {
			return fmt.Errorf("line %d in place of %d", n, next)
		}
		next, known = n+1, true
	}
	return nil
}

// attachTo opens an attachment and returns its stdout.
func attachTo(e *engine.Engine, id, query string) (net.Conn, io.Reader, error) {
	conn, err := net.Dial("unix", e.Socket())
	if err != nil {
		return nil, nil, err
	}
	req, err := http.NewRequest("POST", "http://gantry/v1.51/containers/"+id+"/attach?"+query, nil)
	if err != nil {
		return nil, nil, err
	}
	req.Header.Set("Connection", "Upgrade")
	req.Header.Set("Upgrade", "tcp")
	if err := req.Write(conn); err != nil {
		return nil, nil, err
	}
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, req)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		conn.Close()
		return nil, nil, errors.Join(err, fmt.Errorf("attach: %v", res))
	}
	pr, pw := io.Pipe()
	go func() { // ends with the connection
		_, err := stdcopy.StdCopy(pw, io.Discard, r)
		pw.CloseWithError(err)
	}()
	return conn, pr, nil
}

// TestSoakAttachOverDeaths kills the engine under clients that are attached: the
// container goes on, its stdin stays open, and who attaches again with what was logged
// gets everything, once.
func TestSoakAttachOverDeaths(t *testing.T) {
	e := start(t)
	deaths := scale(50, 3)
	id := e.Must("run", "-d", "-i", "--name", "c1", image, "sh", "-c", "while read x; do echo got $x; done; echo eof")
	once := e.Must("create", "-i", "--name", "c2", image, "sh", "-c", "while read x; do echo got $x; done; echo eof")
	e.Must("start", "c2")
	pid := inspect(t, e, "c1").State.Pid
	for i := range deaths {
		for _, ref := range []string{id, once} {
			a := attach(t, e, ref, "logs=1&stream=1&stdin=1&stdout=1")
			attach(t, e, ref, "stream=1&stdout=1") // another, that only looks on
			a.write(itoa(i) + "\n")
			for j := range i + 1 {
				if got := a.line(); got != "got "+itoa(j) {
					t.Fatalf("after %d deaths line %d is %q", i, j, got)
				}
			}
		}
		e.Kill()
		e.Launch()
	}
	a := attach(t, e, once, "logs=1&stream=1&stdin=1&stdout=1")
	a.conn.CloseWrite()
	if got := a.rest(); strings.Count(got, "\n") != deaths+1 || !strings.HasSuffix(got, "eof\n") {
		t.Errorf("at the end %q", got)
	}
	if now := inspect(t, e, "c1").State.Pid; now != pid {
		t.Errorf("it was started anew: %d, %d", pid, now)
	}
}
