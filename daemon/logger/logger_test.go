package logger_test

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/logfile"
	"gantry/daemon/logger"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// writeLog makes a log of three files with entries 0..n-1, one a second; every third
// one is stderr's.
func writeLog(t *testing.T, n int) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "c-json.log")
	enc, err := logfile.JSON.NewEncoder(map[string]string{"b": "2", "a": "x y"})
	if err != nil {
		t.Fatal(err)
	}
	var parts [3][]byte
	for i := range n {
		s := logfile.Stdout
		if i%3 == 2 {
			s = logfile.Stderr
		}
		p := i * 3 / n
		parts[p] = enc.Append(parts[p], s, epoch.Add(time.Duration(i)*time.Second), fmt.Appendf(nil, "line %d\n", i))
	}
	for i, p := range parts {
		if err := os.WriteFile(logfile.Name(path, 2-i), p, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func TestRead(t *testing.T) {
	path := writeLog(t, 12)
	at := func(i int) time.Time { return epoch.Add(time.Duration(i) * time.Second) }
	tests := []struct {
		name     string
		o        logger.Options
		out, err string
	}{
		{name: "stdout", o: logger.Options{Stdout: true, Tail: 3}, out: "line 9\nline 10\n"},
		{name: "both, over rotated files", o: logger.Options{Stdout: true, Stderr: true, Tail: 6}, out: "line 6\nline 7\nline 9\nline 10\n", err: "line 8\nline 11\n"},
		{name: "none", o: logger.Options{Stdout: true, Tail: 0}},
		{name: "more than there are", o: logger.Options{Stderr: true, Tail: 99}, err: "line 2\nline 5\nline 8\nline 11\n"},
		{name: "since and until", o: logger.Options{Stdout: true, Tail: -1, Since: at(3), Until: at(6)}, out: "line 3\nline 4\nline 6\n"},
		{name: "timestamps", o: logger.Options{Stdout: true, Tail: 2, Timestamps: true}, out: "2026-01-02T03:04:15.000000000Z line 10\n"},
		{name: "details", o: logger.Options{Stdout: true, Tail: 2, Timestamps: true, Details: true}, out: "2026-01-02T03:04:15.000000000Z a=x+y,b=2 line 10\n"},
		{name: "follow what has ended", o: logger.Options{Stdout: true, Tail: 2, Follow: true}, out: "line 10\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if err := logger.Read(t.Context(), logger.Source{Path: path}, tt.o, &out, &errs); err != nil {
				t.Fatal(err)
			}
			if out.String() != tt.out || errs.String() != tt.err {
				t.Fatalf("stdout %q\nstderr %q", out.String(), errs.String())
			}
		})
	}
}

func TestReadNothing(t *testing.T) {
	var out bytes.Buffer
	src := logger.Source{Path: filepath.Join(t.TempDir(), "none")}
	if err := logger.Read(t.Context(), src, logger.Options{Stdout: true, Tail: -1}, &out, &out); err != nil || out.Len() > 0 {
		t.Fatalf("%v %q", err, out.String())
	}
}

func TestReplay(t *testing.T) {
	path := writeLog(t, 3)
	var out, errs bytes.Buffer
	pos, err := logger.Replay(t.Context(), logger.Source{Path: path}, &out, &errs)
	if err != nil || out.String() != "line 0\nline 1\n" || errs.String() != "line 2\n" {
		t.Fatalf("%v %q %q", err, out.String(), errs.String())
	}
	info, _ := os.Stat(path)
	if want := (logfile.Position{Generation: logfile.Generation(epoch.Add(2 * time.Second)), Offset: info.Size()}); pos != want {
		t.Fatalf("position %+v, want %+v", pos, want)
	}
}

func TestParse(t *testing.T) {
	tests := []struct {
		typ, err string
		config   map[string]string
		want     logger.Settings
	}{
		{typ: "json-file", want: logger.Settings{Driver: "json-file", Files: logger.Files{MaxFile: 1}}},
		{typ: "json-file", config: map[string]string{"max-size": "10m", "max-file": "3"}, want: logger.Settings{Driver: "json-file", Files: logger.Files{MaxSize: 10000000, MaxFile: 3}}},
		{typ: "json-file", config: map[string]string{"max-size": "-1"}, want: logger.Settings{Driver: "json-file", Files: logger.Files{MaxFile: 1}}},
		{typ: "none", config: map[string]string{"x": "y"}, want: logger.Settings{Driver: "none"}},
		{typ: "bogus", err: "logger: no log driver named 'bogus' is registered"},
		{typ: "json-file", config: map[string]string{"x": "y"}, err: "unknown log opt 'x' for json-file log driver"},
		{typ: "json-file", config: map[string]string{"max-file": "0"}, err: "failed to initialize logging driver: max-file cannot be less than 1"},
		{typ: "json-file", config: map[string]string{"mode": "x"}, err: "logger: logging mode not supported: x"},
	}
	for _, tt := range tests {
		got, err := logger.Parse(containertypes.LogConfig{Type: tt.typ, Config: tt.config})
		switch {
		case tt.err != "":
			if err == nil || err.Error() != tt.err {
				t.Errorf("%s %v: error %v", tt.typ, tt.config, err)
			}
		case err != nil || got != tt.want:
			t.Errorf("%s %v: %+v, %v", tt.typ, tt.config, got, err)
		}
	}
}

func TestMergeAndAttrs(t *testing.T) {
	daemon := containertypes.LogConfig{Type: "json-file", Config: map[string]string{"max-size": "20m", "max-file": "5"}}
	got := logger.Merge(containertypes.LogConfig{Config: map[string]string{"max-file": "2"}}, daemon)
	if got.Type != "json-file" || !maps.Equal(got.Config, map[string]string{"max-size": "20m", "max-file": "2"}) {
		t.Fatalf("%+v", got)
	}
	if got := logger.Merge(containertypes.LogConfig{Type: "none"}, daemon); len(got.Config) != 0 {
		t.Fatalf("%+v", got)
	}
	attrs := (&logger.Subject{
		Config:      map[string]string{"labels": "a,b", "env-regex": "^V", "tag": "{{.Name}}/{{.ID}}"},
		ContainerID: "0123456789abcdef", ContainerName: "/web",
		ContainerLabels: map[string]string{"a": "1", "c": "3"}, ContainerEnv: []string{"V1=x", "W=y"},
	}).Attrs()
	if !maps.Equal(attrs, map[string]string{"a": "1", "V1": "x", "tag": "web/0123456789ab"}) {
		t.Fatalf("%v", attrs)
	}
}

// Options that are out of all proportion stay harmless.
func TestHostileOptions(t *testing.T) {
	s, err := logger.Parse(containertypes.LogConfig{Type: logger.JSONFile, Config: map[string]string{"max-file": "999999999999"}})
	if err != nil || s.MaxFile > 1<<20 {
		t.Errorf("max-file: %+v, %v", s, err)
	}
	attrs := (&logger.Subject{Config: map[string]string{"tag": `{{printf "%1000000d" 1}}`}}).Attrs()
	if len(attrs["tag"]) > 4<<10 {
		t.Errorf("tag of %d bytes", len(attrs["tag"]))
	}
	attrs = (&logger.Subject{
		Config:          map[string]string{"labels": "a,b,c"},
		ContainerLabels: map[string]string{"a": "1", "b": strings.Repeat("x", 1<<20), "c": "3"},
	}).Attrs()
	if !maps.Equal(attrs, map[string]string{"a": "1", "c": "3"}) {
		t.Errorf("%d attributes", len(attrs))
	}
}
