package forward_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"gantry/api/logfile"
	"gantry/daemon/logger"
	"gantry/daemon/logger/forward"
	"gantry/internal/testutil/sink"
)

// writer makes a log.
type writer struct {
	path string
	enc  *logfile.Encoder
	next int
}

func newWriter(t *testing.T) *writer {
	t.Helper()
	enc, err := logfile.Local.NewEncoder(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &writer{path: filepath.Join(t.TempDir(), "container-cached.log"), enc: enc}
}

// write appends n lines.
func (w *writer) write(t *testing.T, n int) {
	t.Helper()
	var b []byte
	for range n {
		w.next++
		b = w.enc.Append(b, logfile.Stdout, time.Unix(int64(w.next), 0), fmt.Appendf(nil, "line %d\n", w.next))
	}
	f, err := os.OpenFile(w.path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		t.Fatal(err)
	}
}

// rotate begins a new file, and keeps one of the old.
func (w *writer) rotate(t *testing.T) {
	t.Helper()
	if err := os.Rename(w.path, logfile.Name(w.path, 1)); err != nil {
		t.Fatal(err)
	}
}

func (w *writer) container(driver string, options map[string]string) forward.Container {
	return forward.Container{
		Driver: driver, Path: w.path, Format: logfile.Local, State: filepath.Join(filepath.Dir(w.path), "forwarded"),
		Subject: logger.Subject{
			Config: options, ContainerID: strings.Repeat("ab", 32), ContainerName: "/web",
			ContainerImageID: "sha256:" + strings.Repeat("0", 64), ContainerLabels: map[string]string{"big": strings.Repeat("x", 1<<20)},
		},
	}
}

// journal is what the service has logged.
type journal struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.buf.String()
}

func newService(t *testing.T) (*forward.Service, *journal) {
	t.Helper()
	j := &journal{}
	s := forward.New(slog.New(slog.NewTextHandler(j, nil)))
	t.Cleanup(func() { s.Close() })
	return s, j
}

func texts(got []sink.Message) (all []string) {
	for _, m := range got {
		_, text, _ := strings.Cut(m.Text, "]: ")
		all = append(all, text)
	}
	return all
}

func wantLines(t *testing.T, got []sink.Message, from, to int) {
	t.Helper()
	var want []string
	for i := from; i <= to; i++ {
		want = append(want, fmt.Sprintf("line %d", i))
	}
	if fmt.Sprint(texts(got)) != fmt.Sprint(want) {
		t.Errorf("got %q, want lines %d to %d", texts(got), from, to)
	}
}

// TestGoesOn sends a log that grows between the forwarder's lives: each entry once.
func TestGoesOn(t *testing.T) {
	to := sink.Syslog(t, "tcp", "", nil)
	w := newWriter(t)
	c := w.container(logger.Syslog, map[string]string{"syslog-address": "tcp://" + to.Addr})
	for i := range 4 {
		w.write(t, 500)
		if i == 2 {
			w.rotate(t)
			w.write(t, 100)
		}
		s, j := newService(t)
		s.Start(c, nil)
		wantLines(t, to.WaitN(t, w.next), 1, w.next)
		s.Close()
		if j.String() != "" {
			t.Errorf("logged %s", j)
		}
	}
	s, _ := newService(t)
	s.Start(c, nil)
	s.Close()
	if got := to.Got(); len(got) != w.next {
		t.Errorf("a forwarder with nothing to do sent %d", len(got)-w.next)
	}
}

// TestClosedInTheMiddle ends the forwarder again and again while it sends: nothing is
// lost, and at most a batch comes twice each time.
func TestClosedInTheMiddle(t *testing.T) {
	to := sink.Syslog(t, "tcp", "", nil)
	w := newWriter(t)
	const n, times, batch = 60000, 5, 256
	w.write(t, n)
	c := w.container(logger.Syslog, map[string]string{"syslog-address": "tcp://" + to.Addr})
	for i := range times {
		s, _ := newService(t)
		s.Start(c, nil)
		to.WaitN(t, (i+1)*n/times/2)
		s.Close()
	}
	s, _ := newService(t)
	s.Start(c, nil)
	last := fmt.Sprintf("line %d", n)
	got := texts(to.Wait(t, func(m []sink.Message) bool { return strings.HasSuffix(m[len(m)-1].Text, last) }))
	next := 1
	for _, text := range got {
		var i int
		if _, err := fmt.Sscanf(text, "line %d", &i); err != nil || i > next {
			t.Fatalf("%q comes where line %d was to come", text, next)
		}
		next = max(next, i+1)
	}
	if twice := len(got) - n; twice > times*batch {
		t.Errorf("%d entries come twice", twice)
	}
}

// TestStartedAgain starts a forwarder for a further run while it is at the one before.
func TestStartedAgain(t *testing.T) {
	to := sink.Syslog(t, "tcp", "", nil)
	w := newWriter(t)
	c := w.container(logger.Syslog, map[string]string{"syslog-address": "tcp://" + to.Addr})
	s, _ := newService(t)
	for range 20 {
		w.write(t, 50)
		s.Start(c, nil)
	}
	wantLines(t, to.WaitN(t, 1000), 1, 1000)
}

// TestDamagedPosition: at least once.
func TestDamagedPosition(t *testing.T) {
	to := sink.Syslog(t, "tcp", "", nil)
	w := newWriter(t)
	w.write(t, 5)
	c := w.container(logger.Syslog, map[string]string{"syslog-address": "tcp://" + to.Addr})
	if err := os.WriteFile(c.State, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := newService(t)
	s.Start(c, nil)
	wantLines(t, to.WaitN(t, 5), 1, 5)
}

// TestFullDisk: the position can't be saved, and nothing is sent twice for that.
func TestFullDisk(t *testing.T) {
	to := sink.Syslog(t, "tcp", "", nil)
	w := newWriter(t)
	w.write(t, 1000)
	c := w.container(logger.Syslog, map[string]string{"syslog-address": "tcp://" + to.Addr})
	c.State = "/dev/full"
	s, j := newService(t)
	s.Start(c, nil)
	s.Remove(t.Context(), c.Subject.ContainerID)
	wantLines(t, to.WaitN(t, 1000), 1, 1000)
	if n := strings.Count(j.String(), "cannot save position in log"); n != 1 {
		t.Errorf("told %d times: %s", n, j)
	}
}

// TestUncountedLoss: a file has gone that nobody has counted.
func TestUncountedLoss(t *testing.T) {
	to := sink.Syslog(t, "tcp", "", nil)
	w := newWriter(t)
	c := w.container(logger.Syslog, map[string]string{"syslog-address": "tcp://" + to.Addr})
	w.write(t, 5)
	s, _ := newService(t)
	s.Start(c, nil)
	to.WaitN(t, 5)
	s.Close()
	w.write(t, 5)
	w.rotate(t)
	w.write(t, 5)
	w.rotate(t)
	w.write(t, 5)
	s, j := newService(t)
	s.Start(c, nil)
	got := to.WaitN(t, 15)
	s.Close()
	wantLines(t, got[5:], 11, 20)
	if n := strings.Count(j.String(), "were rotated away before they could be forwarded"); n != 1 || !strings.Contains(j.String(), "entries=0 perhaps-more=true") {
		t.Errorf("told %d times: %s", n, j)
	}
}

// TestRefused has entries that the target can never take, between others.
func TestRefused(t *testing.T) {
	to := sink.GELF(t, "udp", "")
	w := newWriter(t)
	w.write(t, 3)
	s, j := newService(t)
	s.Start(w.container(logger.GELF, map[string]string{"gelf-address": "udp://" + to.Addr, "gelf-compression-type": "none", "labels": "big"}), nil)
	s.Remove(t.Context(), strings.Repeat("ab", 32)) // waits for the end
	if !strings.Contains(j.String(), `msg="entries of a log cannot be forwarded"`) || !strings.Contains(j.String(), "entries=3") {
		t.Errorf("logged %s", j)
	}
}

// TestRemove: what the target takes is sent first; one that is down is not waited for.
func TestRemove(t *testing.T) {
	to := sink.Syslog(t, "tcp", "", nil)
	w := newWriter(t)
	w.write(t, 10000)
	c := w.container(logger.Syslog, map[string]string{"syslog-address": "tcp://" + to.Addr})
	s, j := newService(t)
	s.Start(c, nil)
	s.Remove(t.Context(), c.Subject.ContainerID)
	if got := to.WaitN(t, w.next); len(got) != w.next || j.String() != "" {
		t.Errorf("%d messages came, and it logged %s", len(got), j)
	}
	to.Close()
	w.write(t, 10)
	s.Start(c, nil)
	time.Sleep(50 * time.Millisecond) // it may have been refused by now, or not
	s.Remove(t.Context(), c.Subject.ContainerID)
	if !strings.Contains(j.String(), "the end of a removed container's log has not been forwarded") {
		t.Errorf("logged %s", j)
	}
}

// TestBatchLimit has an option that bounds what is sent at once below one entry.
func TestBatchLimit(t *testing.T) {
	to := sink.Fluentd(t, "tcp", "", nil)
	w := newWriter(t)
	w.write(t, 50)
	s, _ := newService(t)
	s.Start(w.container(logger.Fluentd, map[string]string{"fluentd-address": to.Addr, "fluentd-buffer-limit": "1", "fluentd-request-ack": "true"}), nil)
	if got := to.WaitN(t, 50); got[49].Text != "line 50" {
		t.Errorf("the last is %q", got[49].Text)
	}
}

func TestOpen(t *testing.T) {
	w := newWriter(t)
	down := map[string]string{"gelf-address": "tcp://127.0.0.1:1"}
	if _, err := forward.Open(t.Context(), w.container(logger.GELF, down), false); err != nil {
		t.Errorf("a target that need not be there: %v", err)
	}
	const want = "failed to initialize logging driver: gelf: cannot connect to GELF endpoint: 127.0.0.1:1 dial tcp 127.0.0.1:1: connect: connection refused"
	if _, err := forward.Open(t.Context(), w.container(logger.GELF, down), true); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	lazy := map[string]string{"fluentd-address": "127.0.0.1:1", "fluentd-async": "true"}
	if _, err := forward.Open(t.Context(), w.container(logger.Fluentd, lazy), true); err != nil {
		t.Errorf("an asynchronous target: %v", err)
	}
}
