package fluentd_test

import (
	"fmt"
	"io"
	"maps"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/api/logfile"
	"gantry/daemon/logger/target"
	"gantry/daemon/logger/target/fluentd"
	"gantry/internal/testutil/sink"
)

var (
	at = time.Date(2026, 2, 3, 4, 5, 6, 123456789, time.UTC)
	of = target.Container{ID: strings.Repeat("ab", 32), Name: "web", Tag: "a.tag", Attrs: map[string]string{"team": "x"}}
)

func open(t *testing.T, c map[string]string) (*fluentd.Target, target.Pace) {
	t.Helper()
	if err := fluentd.Check(c); err != nil {
		t.Fatal(err)
	}
	to, pace, err := fluentd.New(c, of)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { to.Close() })
	return to, pace
}

func entries() []target.Entry {
	return []target.Entry{
		{Stream: logfile.Stdout, Time: at, Line: []byte("one")},
		{Stream: logfile.Stderr, Time: at, Line: []byte("two"), Part: &target.Part{ID: "p", Ordinal: 2, Last: true}},
	}
}

func send(to *fluentd.Target, t *testing.T) error {
	if err := to.Send(t.Context(), entries()); err != nil {
		return err
	}
	return to.Settle(t.Context())
}

func TestRecord(t *testing.T) {
	unix := filepath.Join(t.TempDir(), "s")
	for _, tt := range []struct {
		name, network, addr string
		options             map[string]string
		exact               bool
	}{
		{name: "tcp", network: "tcp"},
		{name: "unix", network: "unix", addr: unix},
		{name: "sub-second precision", network: "tcp", options: map[string]string{"fluentd-sub-second-precision": "true"}, exact: true},
		{name: "acknowledged", network: "tcp", options: map[string]string{"fluentd-request-ack": "true"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := sink.Fluentd(t, tt.network, tt.addr, nil)
			c := map[string]string{"fluentd-address": tt.network + "://" + s.Addr}
			maps.Copy(c, tt.options)
			to, _ := open(t, c)
			if err := send(to, t); err != nil {
				t.Fatal(err)
			}
			got := s.WaitN(t, 2)
			for i, want := range []map[string]string{
				{"log": "one", "source": "stdout", "partial_message": ""},
				{"log": "two", "source": "stderr", "partial_message": "true", "partial_id": "p", "partial_ordinal": "2", "partial_last": "true"},
			} {
				want["container_id"], want["container_name"], want["team"] = of.ID, "/web", "x"
				if !tt.exact {
					want["@seconds"] = fmt.Sprint(at.Unix())
				} else if !got[i].Time.Equal(at) {
					t.Errorf("time %v", got[i].Time)
				}
				for k, v := range want {
					if got[i].Fields[k] != v || got[i].Tag != "a.tag" {
						t.Errorf("entry %d of %s: %s=%q, want %q", i, got[i].Tag, k, got[i].Fields[k], v)
					}
				}
			}
		})
	}
}

// TestNoAcknowledgement has a server that reads and stays silent.
func TestNoAcknowledgement(t *testing.T) {
	s := sink.Fluentd(t, "tcp", "", nil)
	s.Mute.Store(true)
	to, _ := open(t, map[string]string{"fluentd-address": s.Addr, "fluentd-request-ack": "1", "fluentd-write-timeout": "50ms"})
	if err := send(to, t); err == nil || !strings.Contains(err.Error(), "await acknowledgement") {
		t.Fatal(err)
	}
	s.Mute.Store(false)
	if err := send(to, t); err != nil {
		t.Fatalf("over a new connection: %v", err)
	}
	if s.Conns() != 2 {
		t.Errorf("%d connections", s.Conns())
	}
}

// TestEndlessAcknowledgement has servers that answer more than there is to say.
func TestEndlessAcknowledgement(t *testing.T) {
	const word = "\xdb\x40\x00\x00\x00" // a string of a gibibyte
	for name, answer := range map[string]string{
		"value":  "\x81\xa3ack" + word,
		"key":    "\x81" + word,
		"binary": "\x81\xc6\x40\x00\x00\x00",
		"deep":   "\x81\xa1x" + strings.Repeat("\x91", 1000) + "\xc0",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			defer conn.Close()
			conn.Read(make([]byte, 1)) // what comes before a message is passed over
			io.WriteString(conn, answer)
			io.Copy(io.Discard, conn)
		}()
		to, _ := open(t, map[string]string{"fluentd-address": l.Addr().String(), "fluentd-request-ack": "1", "fluentd-write-timeout": "5s"})
		if err := send(to, t); err == nil || !strings.Contains(err.Error(), "msgp") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestWriteTimeout has a server that reads nothing.
func TestWriteTimeout(t *testing.T) {
	s := sink.Fluentd(t, "tcp", "", nil)
	s.Deaf.Store(true)
	to, _ := open(t, map[string]string{"fluentd-address": s.Addr, "fluentd-write-timeout": "50ms"})
	line := make([]byte, 16<<10)
	for range 10000 {
		if err := to.Send(t.Context(), []target.Entry{{Stream: logfile.Stdout, Time: at, Line: line}}); err != nil {
			return
		}
	}
	t.Error("a server that reads nothing takes all")
}

func TestReconnectInterval(t *testing.T) {
	s := sink.Fluentd(t, "tcp", "", nil)
	to, pace := open(t, map[string]string{
		"fluentd-address": s.Addr, "fluentd-async": "true", "fluentd-async-reconnect-interval": "100ms",
		"fluentd-retry-wait": "3s", "fluentd-max-retries": "7", "fluentd-buffer-limit": "32k",
	})
	if want := (target.Pace{First: 3 * time.Second, Tries: 7, Batch: 32 << 10, Lazy: true}); pace != want {
		t.Errorf("pace %+v, want %+v", pace, want)
	}
	for range 2 {
		if err := send(to, t); err != nil {
			t.Fatal(err)
		}
		time.Sleep(150 * time.Millisecond) // the interval that is asked for
	}
	if s.WaitN(t, 4); s.Conns() != 2 {
		t.Errorf("%d connections", s.Conns())
	}
}

func TestTLS(t *testing.T) {
	conf, _ := sink.Certificates(t)
	s := sink.Fluentd(t, "tcp", "127.0.0.1:0", conf)
	to, _ := open(t, map[string]string{"fluentd-address": "tls://" + s.Addr})
	if err := to.Connect(t.Context()); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a server is trusted that nobody has vouched for: %v", err)
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct{ key, value, err string }{
		{"fluentd-address", "host", ""},
		{"fluentd-address", "tcp://host:1", ""},
		{"fluentd-address", "tls://host", ""},
		{"fluentd-address", "unix:///a/b", ""},
		{"fluentd-address", "unix://", "invalid fluentd-address (unix://): path is empty"},
		{"fluentd-address", "udp://x", "invalid fluentd-address (udp://x): unsupported scheme: 'udp'"},
		{"fluentd-address", "tcp://x/y", "invalid fluentd-address (tcp://x/y): should not contain a path element"},
		{"fluentd-address", "tcp://x:99999", "invalid fluentd-address (tcp://x:99999): invalid port: strconv.ParseUint: parsing \"99999\": value out of range"},
		{"fluentd-async", "x", "strconv.ParseBool: parsing \"x\": invalid syntax"},
		{"fluentd-buffer-limit", "x", "invalid size: 'x'"},
		{"fluentd-retry-wait", "x", "time: invalid duration \"x\""},
		{"fluentd-max-retries", "4294967295", "invalid fluentd-max-retries: value out of range"},
		{"fluentd-request-ack", "x", "strconv.ParseBool: parsing \"x\": invalid syntax"},
		{"fluentd-write-timeout", "-1s", "invalid value for fluentd-write-timeout: value must be a duration that is non-negative"},
		{"fluentd-async-reconnect-interval", "0", ""},
		{"fluentd-async-reconnect-interval", "11s", "invalid value for fluentd-async-reconnect-interval: value (\"11s\") must be between 100ms and 10s"},
		{"bogus", "a", "unknown log opt 'bogus' for fluentd log driver"},
	} {
		err := fluentd.Check(map[string]string{tt.key: tt.value})
		if (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("%s=%s: %v, want %s", tt.key, tt.value, err, tt.err)
		}
	}
}
