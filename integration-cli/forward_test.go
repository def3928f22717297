package integrationcli

import (
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gantry/internal/testutil/sink"
)

// countTo prints the numbers from 1 to n.
func countTo(n int) string {
	return fmt.Sprintf("i=1; while [ $i -le %d ]; do echo line $i; i=$((i+1)); done", n)
}

// numbers are those that messages end in, as countTo prints them.
func numbers(t *testing.T, got []sink.Message) (all []int) {
	t.Helper()
	for _, m := range got {
		_, text, _ := strings.Cut(m.Text, "line ")
		n, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("message %q", m.Text)
		}
		all = append(all, n)
	}
	return all
}

// complete checks that all from 1 to n have come, in order but for what was sent again,
// of which there are at most again.
func complete(t *testing.T, got []sink.Message, n, again int) {
	t.Helper()
	next, twice := 1, 0
	for _, i := range numbers(t, got) {
		switch {
		case i == next:
			next++
		case i < next:
			twice++
			// What is sent again begins at a place that had been reached, and goes on in order.
		default:
			t.Fatalf("%d came where %d was to come", i, next)
		}
	}
	if next != n+1 || twice > again {
		t.Errorf("%d of %d came, %d again", next-1, n, twice)
	}
}

// until says of messages that the nth has come, however often others have.
func until(n int) func([]sink.Message) bool {
	return func(got []sink.Message) bool {
		return len(got) > 0 && strings.HasSuffix(got[len(got)-1].Text, "line "+itoa(n))
	}
}

// TestForward runs a container with each remote driver; docker logs shows the same.
func TestForward(t *testing.T) {
	t.Parallel()
	e := start(t)
	fluentd := sink.Fluentd(t, "tcp", "", nil)
	tcp, udp := sink.GELF(t, "tcp", ""), sink.GELF(t, "udp", "")
	sys := sink.Syslog(t, "tcp", "", nil)
	for _, tt := range []struct {
		name, driver string
		to           *sink.Sink
		opts         []string
		check        func(id string, m sink.Message) bool
	}{
		{"syslog", "syslog", sys, []string{"syslog-address=tcp://" + sys.Addr, "tag={{.Name}}/{{.ID}}", "syslog-format=rfc3164"}, func(id string, m sink.Message) bool {
			return strings.Contains(m.Text, " syslog/"+id[:12]+"[")
		}},
		{"fluentd", "fluentd", fluentd, []string{"fluentd-address=" + fluentd.Addr, "labels=team", "env=COLOUR"}, func(id string, m sink.Message) bool {
			return m.Tag == id[:12] && m.Fields["container_name"] == "/fluentd" && m.Fields["team"] == "blue" && m.Fields["COLOUR"] == "red"
		}},
		{"gelf-tcp", "gelf", tcp, []string{"gelf-address=tcp://" + tcp.Addr, "labels-regex=^te"}, func(id string, m sink.Message) bool {
			return m.Fields["_container_id"] == id && m.Fields["_team"] == "blue" && strings.HasPrefix(m.Fields["_command"], "sh -c ") && m.Fields["_image_name"] == image
		}},
		{"gelf-udp", "gelf", udp, []string{"gelf-address=udp://" + udp.Addr, "mode=non-blocking", "max-buffer-size=2m"}, func(id string, m sink.Message) bool {
			return m.Fields["_tag"] == id[:12]
		}},
	} {
		args := []string{"run", "-d", "--name", tt.name, "--label", "team=blue", "-e", "COLOUR=red", "--log-driver", tt.driver}
		for _, o := range tt.opts {
			args = append(args, "--log-opt", o)
		}
		id := e.Must(append(args, image, "sh", "-c", countTo(20)+"; sleep 0.3; echo line 21 >&2")...)
		got := tt.to.WaitN(t, 21)
		complete(t, got, 21, 0)
		for _, m := range got {
			if !tt.check(id, m) {
				t.Errorf("%s: %+v", tt.name, m)
				break
			}
		}
		e.Must("wait", tt.name)
		if r := e.Docker("logs", tt.name); strings.Count(r.Stdout, "\n") != 20 || r.Stderr != "line 21\n" {
			t.Errorf("docker logs of %s: %q %q", tt.name, r.Stdout, r.Stderr)
		}
		if path := e.Must("inspect", "-f", "{{.LogPath}}", tt.name); path != "" {
			t.Errorf("%s: log path %q", tt.name, path)
		}
	}
	args := []string{"run", "--name", "hidden", "--log-driver", "syslog", "--log-opt", "syslog-address=tcp://" + sys.Addr, "--log-opt", "cache-disabled=true"}
	e.Must(append(args, image, "echo", "line 22")...)
	sys.Wait(t, until(22))
	if r := e.Docker("logs", "hidden"); r.Code == 0 || !strings.Contains(r.Stderr, "configured logging driver does not support reading") {
		t.Errorf("logs without a cache: %d %s", r.Code, r.Stderr)
	}
}

// journalSocket is where systemd's journal listens.
const journalSocket = "/run/systemd/journal/socket"

// TestForwardJournal has a machine without a journal, and with one.
func TestForwardJournal(t *testing.T) {
	e := start(t)
	if conn, err := net.Dial("unixgram", journalSocket); err == nil {
		conn.Close()
		t.Skip("this machine has a journal of its own")
	}
	args := []string{"run", "--name", "box", "--log-driver", "journald", "--log-opt", "tag={{.Name}}", image}
	r := e.Docker(append(args, "true")...)
	if r.Code != 125 || !strings.Contains(r.Stderr, "failed to create task for container: failed to initialize logging driver: journald is not enabled on this host") {
		t.Errorf("%d %s", r.Code, r.Stderr)
	}
	e.Must("rm", "box")
	var made []string
	dir := filepath.Dir(journalSocket)
	for d := dir; !exists(d); d = filepath.Dir(d) {
		made = append(made, d)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, d := range made {
			os.Remove(d)
		}
	})
	s := sink.Journal(t, journalSocket)
	t.Cleanup(func() { s.Close(); os.Remove(journalSocket) })
	e.Must(append(args, "sh", "-c", "echo said; sleep 0.3; echo cried >&2")...)
	got := s.WaitN(t, 2)
	id := e.Must("inspect", "-f", "{{.Id}}", "box")
	for i, want := range []map[string]string{
		{"MESSAGE": "said", "PRIORITY": "6", "CONTAINER_LOG_ORDINAL": "1"}, {"MESSAGE": "cried", "PRIORITY": "3", "CONTAINER_LOG_ORDINAL": "2"},
	} {
		maps.Copy(want, map[string]string{
			"CONTAINER_ID": id[:12], "CONTAINER_ID_FULL": id, "CONTAINER_NAME": "box", "CONTAINER_TAG": "box",
			"SYSLOG_IDENTIFIER": "box", "IMAGE_NAME": image,
		})
		for k, v := range want {
			if got[i].Fields[k] != v {
				t.Errorf("entry %d: %s=%q, want %q", i, k, got[i].Fields[k], v)
			}
		}
	}
	if got := e.Must("logs", "box"); got != "said" && got != "said\ncried" {
		t.Errorf("docker logs: %q", got)
	}
}

func exists(path string) bool { _, err := os.Lstat(path); return err == nil }

// TestForwardDefault has a remote driver as the daemon's default.
func TestForwardDefault(t *testing.T) {
	t.Parallel()
	s := sink.GELF(t, "udp", "")
	e := start(t, "--log-driver", "gelf", "--log-opt", "gelf-address=udp://"+s.Addr, "--log-opt", "tag=ours")
	e.Must("run", image, "echo", "line 1")
	e.Must("run", "--log-opt", "tag=own", image, "echo", "line 2")
	e.Must("run", "--log-driver", "json-file", image, "echo", "line 3")
	got := s.WaitN(t, 2)
	complete(t, got, 2, 0)
	if got[0].Fields["_tag"] != "ours" || got[1].Fields["_tag"] != "own" {
		t.Errorf("tags %q and %q", got[0].Fields["_tag"], got[1].Fields["_tag"])
	}
	if info := e.Must("info", "-f", "{{.LoggingDriver}} {{.Plugins.Log}}"); info != "gelf [fluentd gelf journald json-file local syslog]" {
		t.Errorf("info: %s", info)
	}
	if r := e.Docker("run", "--log-opt", "bogus=1", image, "true"); r.Code != 125 || !strings.Contains(r.Stderr, `unknown log opt "bogus" for gelf log driver`) {
		t.Errorf("an unknown option: %d %s", r.Code, r.Stderr)
	}
}

// TestForwardLongLine: its pieces are marked.
func TestForwardLongLine(t *testing.T) {
	t.Parallel()
	e := start(t)
	s := sink.Fluentd(t, "tcp", "", nil)
	e.Must("run", "--log-driver", "fluentd", "--log-opt", "fluentd-address="+s.Addr, image, "sh", "-c", "head -c 40000 /dev/zero | tr '\\0' x; echo; echo short")
	got := s.WaitN(t, 4)
	id := got[0].Fields["partial_id"]
	for i, want := range []struct {
		size          int
		ordinal, last string
	}{{16384, "1", "false"}, {16384, "2", "false"}, {7232, "3", "true"}} {
		m := got[i].Fields
		if len(got[i].Text) != want.size || m["partial_id"] != id || len(id) != 64 || m["partial_ordinal"] != want.ordinal || m["partial_last"] != want.last || m["partial_message"] != "true" {
			t.Errorf("piece %d of %d bytes: id %q ordinal %q last %q", i, len(got[i].Text), m["partial_id"], m["partial_ordinal"], m["partial_last"])
		}
	}
	if _, part := got[3].Fields["partial_id"]; part || got[3].Text != "short" {
		t.Errorf("after it %+v", got[3])
	}
}

// TestForwardNobodyThere: a driver that blocks fails a user's start, in dockerd's words;
// others, and the engine's own starts, do not need the target.
func TestForwardNobodyThere(t *testing.T) {
	t.Parallel()
	e := start(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	const words = "failed to create task for container: failed to initialize logging driver: "
	refused := "dial tcp " + addr + ": connect: connection refused"
	for _, tt := range []struct {
		name, driver, opt, want string
		code                    int
	}{
		{"sys", "syslog", "syslog-address=tcp://" + addr, words + refused, 125},
		{"sys-unix", "syslog", "syslog-address=unix://" + e.Dir + "/gone", "stat " + e.Dir + "/gone: no such file or directory", 127},
		{"flu", "fluentd", "fluentd-address=" + addr, words + refused, 125},
		{"gelf", "gelf", "gelf-address=tcp://" + addr, words + "gelf: cannot connect to GELF endpoint: " + addr + " " + refused, 125},
	} {
		r := e.Docker("run", "--name", tt.name, "--log-driver", tt.driver, "--log-opt", tt.opt, image, "true")
		if r.Code != tt.code || !strings.Contains(r.Stderr, tt.want) {
			t.Errorf("%s: %d %s", tt.name, r.Code, r.Stderr)
		}
	}
	if got := e.Must("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", "flu"); !strings.HasSuffix(got, words+refused) || !strings.HasPrefix(got, "created 128 ") {
		t.Errorf("state %q", got)
	}

	// A socket may go away later: logs are shown, a start says why it fails.
	gone := sink.Syslog(t, "unixgram", e.Dir+"/dgram", nil)
	e.Must("run", "--name", "gone", "--log-driver", "syslog", "--log-opt", "syslog-address=unixgram://"+gone.Addr, image, "echo", "line 1")
	gone.WaitN(t, 1)
	gone.Close()
	os.Remove(gone.Addr)
	if got := e.Must("logs", "gone"); got != "line 1" {
		t.Errorf("logs of a driver whose socket has gone: %q", got)
	}
	if r := e.Docker("start", "-a", "gone"); !strings.Contains(r.Stderr, words+"stat "+gone.Addr+": no such file or directory") {
		t.Errorf("start: %s", r.Stderr)
	}
	e.Must("rm", "gone")

	e.Must("run", "-d", "--name", "async", "--log-driver", "fluentd", "--log-opt", "fluentd-address="+addr, "--log-opt", "fluentd-async=true", image, "sh", "-c", countTo(10))
	e.Must("wait", "async")
	s := sink.Fluentd(t, "tcp", addr, nil)
	complete(t, s.WaitN(t, 10), 10, 0)
}

// TestForwardTargetDown takes the target away in the middle, twice; nothing is lost, and
// the container and the engine do not notice.
func TestForwardTargetDown(t *testing.T) {
	t.Parallel()
	e := start(t)
	s := sink.Syslog(t, "tcp", "", nil)
	const n = 60
	e.Must("run", "-d", "--name", "box", "--log-driver", "syslog", "--log-opt", "syslog-address=tcp://"+s.Addr, image,
		"sh", "-c", fmt.Sprintf("i=1; while [ $i -le %d ]; do echo line $i; i=$((i+1)); sleep 0.05; done", n))
	for _, after := range []int{5, 30} {
		s.Wait(t, func(got []sink.Message) bool { return len(got) >= after })
		s.Close()
		time.Sleep(300 * time.Millisecond) // lines are written meanwhile
		s.Open(t)
	}
	complete(t, s.Wait(t, until(n)), n, n)
	e.Must("wait", "box")
	if log := e.Log(); strings.Count(log, "cannot forward log, to be tried again") > 4 {
		t.Errorf("a target that is down is told too often:\n%s", log)
	}
}

// TestForwardDaemonKilled kills the engine in the middle, and once more after the
// container's end: nothing is lost, and little comes twice.
func TestForwardDaemonKilled(t *testing.T) {
	t.Parallel()
	e := start(t)
	s := sink.Fluentd(t, "tcp", "", nil)
	const n = 100
	e.Must("run", "-d", "--name", "box", "--log-driver", "fluentd", "--log-opt", "fluentd-address="+s.Addr, "--log-opt", "fluentd-request-ack=true", image,
		"sh", "-c", fmt.Sprintf("i=1; while [ $i -le %d ]; do echo line $i; i=$((i+1)); sleep 0.02; done", n))
	s.WaitN(t, 10)
	e.Kill()
	e.Launch()
	s.Wait(t, func(got []sink.Message) bool { return slices.Contains(numbers(t, got), 50) })
	s.Close()
	e.Must("wait", "box") // the rest has nowhere to go
	e.Kill()
	s.Open(t)
	e.Launch()
	complete(t, s.Wait(t, until(n)), n, 60)

	// A container that was removed takes its position along.
	dirs, _ := filepath.Glob(filepath.Join(e.Dir, "data", "containers", "*", "forwarded"))
	if len(dirs) != 1 {
		t.Errorf("positions: %q", dirs)
	}
	e.Must("rm", "box")
	if dirs, _ = filepath.Glob(filepath.Join(e.Dir, "data", "containers", "*", "forwarded")); len(dirs) != 0 {
		t.Errorf("positions of removed containers: %q", dirs)
	}
}

// TestForwardKilledUnderLoad kills the engine again and again while a container writes as
// fast as it can, with a target that acknowledges and one that does not: nothing is lost.
func TestForwardKilledUnderLoad(t *testing.T) {
	t.Parallel()
	e := start(t)
	n, kills := scale(1000000, 60000), scale(20, 2)
	flu, sys := sink.Fluentd(t, "tcp", "", nil), sink.Syslog(t, "tcp", "", nil)
	begin := func(name string, opts ...string) {
		args := []string{"run", "-d", "--name", name, "--log-opt", "cache-max-size=100m", "--log-opt", "cache-compress=false"}
		e.Must(append(append(args, opts...), image, "sh", "-c", fmt.Sprintf("seq %d | sed 's/^/line /'", n))...)
	}
	begin("flu", "--log-driver", "fluentd", "--log-opt", "fluentd-address="+flu.Addr, "--log-opt", "fluentd-request-ack=true")
	begin("sys", "--log-driver", "syslog", "--log-opt", "syslog-address=tcp://"+sys.Addr)
	for i := range kills {
		sys.WaitN(t, min(n, (i+1)*n/kills/2))
		e.Kill()
		e.Launch()
	}
	for name, s := range map[string]*sink.Sink{"fluentd": flu, "syslog": sys} {
		got := s.Wait(t, until(n))
		seen, again := 0, 0
		for _, i := range numbers(t, got) {
			if i > seen+1 {
				t.Fatalf("%s: %d comes after %d", name, i, seen)
			}
			if i <= seen {
				again++
			}
			seen = max(seen, i)
		}
		if seen != n {
			t.Errorf("%s: %d of %d came", name, seen, n)
		}
		t.Logf("%s: %d of %d came again in %d kills", name, again, n, kills)
	}
}

// TestForwardPolicies: what the engine starts by itself does not need the target.
func TestForwardPolicies(t *testing.T) {
	t.Parallel()
	e := start(t)
	s := sink.Syslog(t, "tcp", "", nil)
	e.Must("run", "-d", "--name", "again", "--restart", "always", "--log-driver", "syslog", "--log-opt", "syslog-address=tcp://"+s.Addr,
		image, "sh", "-c", "while [ ! -e /go ]; do sleep 0.05; done; echo line 1; rm /go; exit 3")
	s.Close()
	e.Must("exec", "again", "touch", "/go")
	eventually(t, "the policy has started it", func() bool {
		return e.Must("inspect", "-f", "{{.State.Running}} {{.RestartCount}}", "again") == "true 1"
	})
	e.Must("kill", "-s", "KILL", "again")
	e.Terminate()
	e.Launch()
	eventually(t, "the engine has started it", func() bool {
		return e.Must("inspect", "-f", "{{.State.Running}}", "again") == "true"
	})
	s.Open(t)
	complete(t, s.Wait(t, until(1)), 1, 1)
}

// TestForwardRemoved: the end of a container that removes itself is sent; one whose
// target is down is removed all the same, and soon.
func TestForwardRemoved(t *testing.T) {
	t.Parallel()
	e := start(t)
	s := sink.Syslog(t, "tcp", "", nil)
	const n = 2000
	opt := "syslog-address=tcp://" + s.Addr
	e.Must("run", "--rm", "--log-driver", "syslog", "--log-opt", opt, image, "sh", "-c", countTo(n))
	complete(t, s.Wait(t, until(n)), n, 0)
	e.Must("run", "-d", "--name", "box", "--log-driver", "syslog", "--log-opt", opt, image, "sh", "-c", "sleep 1; "+countTo(5))
	s.Close()
	e.Must("wait", "box")
	begun := time.Now()
	e.Must("rm", "box")
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("the removal took %v", took)
	}
	eventually(t, "the loss is told", func() bool {
		return strings.Contains(e.Log(), "the end of a removed container's log has not been forwarded")
	})
}

// TestForwardRotation rotates while the target is down, and faster than it takes: what has
// gone is counted, and the rest comes in order.
func TestForwardRotation(t *testing.T) {
	t.Parallel()
	e := start(t)
	run := func(name string, s *sink.Sink, n int, cmd string) {
		id := e.Must("run", "-d", "--name", name, "--log-driver", "syslog", "--log-opt", "syslog-address=tcp://"+s.Addr, "--log-opt", "cache-max-size=8k",
			"--log-opt", "cache-max-file=3", image, "sh", "-c", countTo(10)+"; while [ ! -e /go ]; do sleep 0.1; done; "+cmd)
		s.WaitN(t, 10)
		// What has arrived and is not known to have counts as lost when it is rotated away.
		eventually(t, "the first entries are known to have arrived", func() bool {
			b, err := os.ReadFile(filepath.Join(e.Dir, "data", "containers", id, "forwarded"))
			return err == nil && len(b) > 32 && binary.BigEndian.Uint64(b[24:]) == 10
		})
	}
	missing := func(name string, s *sink.Sink, n int) int {
		got := numbers(t, s.Wait(t, until(n)))
		if !slices.IsSorted(got) {
			t.Errorf("%s: out of order: %v", name, got)
		}
		return n - len(slices.Compact(got))
	}

	down := sink.Syslog(t, "tcp", "", nil)
	run("down", down, 3000, strings.Replace(countTo(3000), "i=1;", "i=11;", 1))
	down.Close()
	e.Must("exec", "down", "touch", "/go")
	e.Must("wait", "down")
	down.Open(t)
	lost := missing("down", down, 3000)
	if lost < 1000 {
		t.Fatalf("of 3000 entries only %d are missing", lost)
	}
	const words = "entries of a log were rotated away before they could be forwarded"
	eventually(t, "the loss is told", func() bool { return strings.Contains(e.Log(), words) })
	if log := e.Log(); strings.Count(log, words) != 1 || !strings.Contains(log, fmt.Sprintf("entries=%d perhaps-more=false", lost)) {
		t.Errorf("%d are missing, and the log tells\n%s", lost, log)
	}

	slow := sink.Syslog(t, "tcp", "", nil)
	n := scale(500000, 60000)
	run("slow", slow, n, fmt.Sprintf("seq 11 %d | sed 's/^/line /'", n))
	slow.Pause.Store(int64(200 * time.Microsecond))
	e.Must("exec", "slow", "touch", "/go")
	e.Must("wait", "slow")
	slow.Pause.Store(0)
	if lost = missing("slow", slow, n); lost == 0 {
		t.Skip("the slow target was fast enough")
	}
	told := func() (sum int) {
		for _, m := range regexp.MustCompile(words+`" .*entries=(\d+) perhaps-more=false`).FindAllStringSubmatch(e.Log(), -1) {
			one, _ := strconv.Atoi(m[1])
			sum += one
		}
		return sum - 3000 + len(numbers(t, down.Got()))
	}
	eventually(t, fmt.Sprintf("%d lost entries are told", lost), func() bool { return told() == lost })
}

// liveForwarded is live with a container whose log somebody takes.
func (s *site) liveForwarded() error {
	to, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer to.Close()
	return s.life(object{
		"Image": image, "Cmd": []string{"sh", "-c", "echo said; exec sleep 1000"},
		"HostConfig": object{
			"NetworkMode": "none",
			"LogConfig":   object{"Type": "gelf", "Config": object{"gelf-address": "udp://" + to.LocalAddr().String()}},
		},
	})
}
