package journald_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/api/logfile"
	"gantry/daemon/logger/target"
	"gantry/daemon/logger/target/journald"
	"gantry/internal/testutil/sink"
)

var (
	at = time.Date(2026, 2, 3, 4, 5, 6, 123456789, time.UTC)
	of = target.Container{
		ID: strings.Repeat("ab", 32), Name: "web", ImageName: "busybox:latest", Tag: "a tag",
		Attrs: map[string]string{"com.example.team": "x", "_K": "several\nlines", "__": "no name"},
	}
)

func TestFields(t *testing.T) {
	s := sink.Journal(t, filepath.Join(t.TempDir(), "s"))
	to, _, err := journald.New(s.Addr, of)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	long := strings.Repeat("x", 16<<10)
	err = to.Send(t.Context(), []target.Entry{
		{Stream: logfile.Stdout, Time: at, Line: []byte("one")},
		{Stream: logfile.Stderr, Time: at, Line: []byte(long), Part: &target.Part{ID: "p", Ordinal: 1}},
		{Stream: logfile.Stderr, Time: at, Line: []byte("end"), Part: &target.Part{ID: "p", Ordinal: 2, Last: true}},
		{Stream: logfile.Stdout, Time: at},
	})
	if err == nil {
		err = to.Settle(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	got := s.WaitN(t, 4)
	common := map[string]string{
		"CONTAINER_ID": of.ID[:12], "CONTAINER_ID_FULL": of.ID, "CONTAINER_NAME": "web", "CONTAINER_TAG": "a tag",
		"IMAGE_NAME": "busybox:latest", "SYSLOG_IDENTIFIER": "a tag", "COM_EXAMPLE_TEAM": "x", "K": "several\nlines",
		"SYSLOG_TIMESTAMP": "2026-02-03T04:05:06.123456789Z", "CONTAINER_LOG_EPOCH": got[0].Fields["CONTAINER_LOG_EPOCH"],
	}
	for i, own := range []map[string]string{
		{"MESSAGE": "one", "PRIORITY": "6", "CONTAINER_LOG_ORDINAL": "1", "CONTAINER_PARTIAL_ID": "", "CONTAINER_PARTIAL_MESSAGE": ""},
		{
			"MESSAGE": long, "PRIORITY": "3", "CONTAINER_LOG_ORDINAL": "2", "CONTAINER_PARTIAL_ID": "p",
			"CONTAINER_PARTIAL_ORDINAL": "1", "CONTAINER_PARTIAL_LAST": "false", "CONTAINER_PARTIAL_MESSAGE": "true",
		},
		{"MESSAGE": "end", "CONTAINER_PARTIAL_ORDINAL": "2", "CONTAINER_PARTIAL_LAST": "true", "CONTAINER_PARTIAL_MESSAGE": ""},
		{"MESSAGE": "", "PRIORITY": "6", "CONTAINER_LOG_ORDINAL": "4"},
	} {
		for _, want := range []map[string]string{common, own} {
			for k, v := range want {
				if got[i].Fields[k] != v {
					t.Errorf("entry %d: %s=%q, want %q", i, k, got[i].Fields[k], v)
				}
			}
		}
	}
	if len(common["CONTAINER_LOG_EPOCH"]) != 64 {
		t.Errorf("epoch %q", common["CONTAINER_LOG_EPOCH"])
	}
}

// TestLarge has fields that no datagram holds.
func TestLarge(t *testing.T) {
	s := sink.Journal(t, filepath.Join(t.TempDir(), "s"))
	big := of
	big.Attrs = map[string]string{"big": strings.Repeat("x", 1<<20)}
	to, _, err := journald.New(s.Addr, big)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	if err := to.Send(t.Context(), []target.Entry{{Stream: logfile.Stdout, Time: at, Line: []byte("one")}}); err != nil {
		t.Fatal(err)
	}
	got := s.WaitN(t, 1)
	if got[0].Text != "one" || got[0].Fields["@file"] != "true" || len(got[0].Fields["BIG"]) != 1<<20 {
		t.Errorf("%q, by file: %q, %d bytes", got[0].Text, got[0].Fields["@file"], len(got[0].Fields["BIG"]))
	}
}

func TestNobodyThere(t *testing.T) {
	to, _, err := journald.New(filepath.Join(t.TempDir(), "none"), of)
	if err != nil {
		t.Fatal(err)
	}
	if err := to.Connect(t.Context()); err == nil || err.Error() != "journald is not enabled on this host" {
		t.Error(err)
	}
	if err := journald.Check(map[string]string{"tag": "x", "y": "z"}); err == nil || err.Error() != "unknown log opt 'y' for journald log driver" {
		t.Error(err)
	}
}
