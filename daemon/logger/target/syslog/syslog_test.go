package syslog_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/api/logfile"
	"gantry/daemon/logger/target"
	"gantry/daemon/logger/target/syslog"
	"gantry/internal/testutil/sink"
)

var at = time.Date(2026, 2, 3, 4, 5, 6, 123456789, time.UTC)

// entries are a line of each stream, an empty one, and a late one.
func entries() []target.Entry {
	return []target.Entry{
		{Stream: logfile.Stdout, Time: at, Line: []byte("one")},
		{Stream: logfile.Stderr, Time: at, Line: []byte("two")},
		{Stream: logfile.Stdout, Time: at},
		{Stream: logfile.Stdout, Time: at.Add(time.Second), Line: []byte("three")},
	}
}

func TestFormats(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	pid := os.Getpid()
	stamp := at.Local().Format(time.Stamp)
	sock := func(name string) string { return filepath.Join(t.TempDir(), name) }
	local := func(pri int, s string) string { return fmt.Sprintf("<%d>%s tag[%d]: %s", pri, stamp, pid, s) }
	for _, tt := range []struct {
		name, network, addr string
		options             map[string]string
		first, second       string
	}{
		{name: "default", network: "udp", first: local(30, "one"), second: local(27, "two")},
		{name: "tcp", network: "tcp", first: local(30, "one"), second: local(27, "two")},
		{name: "unix", network: "unix", addr: sock("s"), first: local(30, "one"), second: local(27, "two")},
		{name: "unixgram", network: "unixgram", addr: sock("g"), first: local(30, "one"), second: local(27, "two")},
		{name: "facility", network: "udp", options: map[string]string{"syslog-facility": "local7"}, first: local(190, "one"), second: local(187, "two")},
		{name: "facility by number", network: "udp", options: map[string]string{"syslog-facility": "1"}, first: local(14, "one"), second: local(11, "two")},
		{
			name: "rfc3164", network: "tcp", options: map[string]string{"syslog-format": "rfc3164"},
			first:  fmt.Sprintf("<30>%s %s tag[%d]: one", stamp, host, pid),
			second: fmt.Sprintf("<27>%s %s tag[%d]: two", stamp, host, pid),
		},
		{
			name: "rfc5424", network: "tcp", options: map[string]string{"syslog-format": "rfc5424"},
			first:  fmt.Sprintf("<30>1 %s %s tag %d tag - one", at.Local().Format(time.RFC3339), host, pid),
			second: fmt.Sprintf("<27>1 %s %s tag %d tag - two", at.Local().Format(time.RFC3339), host, pid),
		},
		{
			name: "rfc5424micro", network: "udp", options: map[string]string{"syslog-format": "rfc5424micro"},
			first:  fmt.Sprintf("<30>1 %s %s tag %d tag - one", at.Local().Format("2006-01-02T15:04:05.000000Z07:00"), host, pid),
			second: fmt.Sprintf("<27>1 %s %s tag %d tag - two", at.Local().Format("2006-01-02T15:04:05.000000Z07:00"), host, pid),
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := sink.Syslog(t, tt.network, tt.addr, nil)
			got := send(t, s, tt.network+"://"+s.Addr, tt.options)
			if got[0].Text != tt.first || got[1].Text != tt.second || !strings.HasSuffix(got[2].Text, "three") {
				t.Errorf("got %+v\nwant %q, %q", got, tt.first, tt.second)
			}
		})
	}
}

func send(t *testing.T, s *sink.Sink, address string, options map[string]string) []sink.Message {
	t.Helper()
	c := map[string]string{"syslog-address": address}
	for k, v := range options {
		c[k] = v
	}
	if err := syslog.Check(c); err != nil {
		t.Fatal(err)
	}
	to, _, err := syslog.New(c, target.Container{Tag: "tag"})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if err := to.Send(t.Context(), entries()); err != nil {
		t.Fatal(err)
	}
	if err := to.Settle(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s.WaitN(t, 3)
}

func TestTLS(t *testing.T) {
	conf, dir := sink.Certificates(t)
	s := sink.Syslog(t, "tcp", "127.0.0.1:0", conf)
	options := map[string]string{
		"syslog-tls-ca-cert": filepath.Join(dir, "ca.pem"), "syslog-tls-cert": filepath.Join(dir, "cert.pem"),
		"syslog-tls-key": filepath.Join(dir, "key.pem"), "syslog-format": "rfc5424",
	}
	for i, m := range send(t, s, "tcp+tls://"+s.Addr, options) {
		if !strings.HasPrefix(m.Text, "counted <") {
			t.Errorf("message %d is not counted: %q", i, m.Text)
		}
	}

	refused := func(options map[string]string) error {
		options["syslog-address"] = "tcp+tls://" + s.Addr
		to, _, err := syslog.New(options, target.Container{Tag: "tag"})
		if err != nil {
			t.Fatal(err)
		}
		defer to.Close()
		return to.Connect(t.Context())
	}
	if err := refused(map[string]string{}); err == nil {
		t.Error("a server is trusted that nobody has vouched for")
	}
	conf2 := conf.Clone()
	conf2.ClientAuth, conf2.MinVersion, conf2.MaxVersion = tls.NoClientCert, 0, 0
	s = sink.Syslog(t, "tcp", "127.0.0.1:0", conf2)
	if err := refused(map[string]string{"syslog-tls-skip-verify": "true"}); err != nil {
		t.Errorf("without verification: %v", err)
	}
}

// TestServerRestarts closes the server's end between two messages: the second is sent
// over a new connection.
func TestServerRestarts(t *testing.T) {
	s := sink.Syslog(t, "tcp", "", nil)
	to, _, err := syslog.New(map[string]string{"syslog-address": "tcp://" + s.Addr}, target.Container{Tag: "tag"})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	one := func() error {
		if err := to.Send(t.Context(), entries()[:1]); err != nil {
			return err
		}
		return to.Settle(t.Context())
	}
	if err := one(); err != nil {
		t.Fatal(err)
	}
	s.WaitN(t, 1)
	s.Close()
	if err := one(); err == nil {
		t.Fatal("sent to nobody")
	}
	s.Open(t)
	if err := one(); err != nil {
		t.Fatal(err)
	}
	if got := s.WaitN(t, 2); got[1].Conn != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestNobodyThere(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	to, _, err := syslog.New(map[string]string{"syslog-address": "tcp://" + addr}, target.Container{})
	if err != nil {
		t.Fatal(err)
	}
	if want := "dial tcp " + addr + ": connect: connection refused"; to.Connect(t.Context()).Error() != want {
		t.Errorf("got %v, want %s", to.Connect(t.Context()), want)
	}
	to, _, err = syslog.New(map[string]string{"syslog-address": "udp://" + addr}, target.Container{})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if err := to.Connect(t.Context()); err != nil {
		t.Errorf("udp has nobody to be refused by: %v", err)
	}
	err = to.Send(t.Context(), entries()[:1])
	if err == nil {
		err = to.Settle(t.Context())
	}
	if err == nil {
		t.Error("a refused datagram counts as sent")
	}
}

// TestTagStaysInLine: words of an image that are part of a tag begin no message.
func TestTagStaysInLine(t *testing.T) {
	s := sink.Syslog(t, "tcp", "", nil)
	to, _, err := syslog.New(map[string]string{"syslog-address": "tcp://" + s.Addr}, target.Container{Tag: "tag\n<0>forged\x00"})
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if err := to.Send(t.Context(), entries()); err != nil {
		t.Fatal(err)
	}
	for _, m := range s.WaitN(t, 3) {
		if !strings.Contains(m.Text, " tag <0>forged [") {
			t.Errorf("%q", m.Text)
		}
	}
}

// TestTLSFiles: what is read whole has an end.
func TestTLSFiles(t *testing.T) {
	dir := t.TempDir()
	fifo, long := filepath.Join(dir, "fifo"), filepath.Join(dir, "long")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(long, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(long, 1<<40); err != nil {
		t.Fatal(err)
	}
	for _, option := range []string{"syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key"} {
		for _, path := range []string{fifo, long, dir, "/dev/zero"} {
			_, _, err := syslog.New(map[string]string{"syslog-address": "tcp+tls://127.0.0.1", option: path}, target.Container{})
			if err == nil || !strings.Contains(err.Error(), path+" is no file of at most") {
				t.Errorf("%s %s: %v", option, path, err)
			}
		}
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct{ key, value, err string }{
		{"syslog-address", "udp://host", ""},
		{"syslog-address", "tcp+tls://host:1", ""},
		{"syslog-address", "bogus://host", "unsupported scheme: 'bogus'"},
		{"syslog-address", "unix:///no/such", "stat /no/such: no such file or directory"},
		{"syslog-address", "tcp://a:b:c", "address a:b:c: too many colons in address"},
		{"syslog-facility", "local0", ""},
		{"syslog-facility", "23", ""},
		{"syslog-facility", "24", "invalid syslog facility"},
		{"syslog-facility", "x", "invalid syslog facility"},
		{"syslog-format", "x", "Invalid syslog format"},
		{"labels", "a", ""},
		{"bogus", "a", "unknown log opt 'bogus' for syslog log driver"},
	} {
		options := map[string]string{tt.key: tt.value}
		err := syslog.Check(options)
		if err == nil {
			err = syslog.Present(options)
		}
		if got := fmt.Sprint(err); got != tt.err && (err != nil || tt.err != "") && !strings.HasPrefix(got, "parse ") {
			t.Errorf("%s=%s: %v, want %s", tt.key, tt.value, err, tt.err)
		}
	}
}
