package top

import (
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

var now = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func sample() ([]Process, Host) {
	h := Host{
		Now: now, Memory: 1 << 30,
		User:  func(uid uint32) string { return map[uint32]string{0: "root"}[uid] },
		Group: func(uint32) string { return "root" },
	}
	return []Process{{
		PID: 42, PPID: 1, PGID: 42, SID: 42, Comm: "sleep", Args: []string{"sleep", "1d"}, State: "S",
		TTY: 136 << 8, Foreground: true, Used: 75 * time.Second, Started: now.Add(-time.Hour), Threads: 1,
		Virtual: 4096 << 10, Resident: 2048 << 10, Priority: 20,
	}}, h
}

func TestTable(t *testing.T) {
	tests := []struct {
		args, err   string
		titles, row string
	}{
		{args: "", titles: "UID PID PPID C STIME TTY TIME CMD", row: "root 42 1 2 11:00 pts/0 00:01:15 sleep 1d"},
		{args: "aux", titles: "USER PID %CPU %MEM VSZ RSS TTY STAT START TIME COMMAND", row: "root 42 2.1 0.2 4096 2048 pts/0 Ss+ 11:00 1:15 sleep 1d"},
		{args: "-o pid,comm", titles: "PID COMMAND", row: "42 sleep"},
		{args: "-eo pid,user=WHO,etime", titles: "PID WHO ELAPSED", row: "42 root 01:00:00"},
		{args: "-opid -o args", titles: "PID COMMAND", row: "42 sleep 1d"},
		{args: "-o comm", err: "Couldn't find PID field in ps output"},
		{args: "-o pid,bogus", err: `ps: error: unknown user-defined format specifier "bogus"`},
		{args: "-e -o user=PID", err: `specifying "user=PID" is not allowed`},
		{args: "-Z", err: `ps: error: unsupported option "Z"`},
	}
	local := time.Local
	time.Local = time.UTC
	defer func() { time.Local = local }()
	for _, tt := range tests {
		t.Run(tt.args, func(t *testing.T) {
			ps, h := sample()
			got, err := Table(tt.args, ps, h)
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Fatalf("error %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if s := strings.Join(got.Titles, " "); s != tt.titles {
				t.Errorf("titles %s", s)
			}
			if s := strings.Join(got.Processes[0], " "); s != tt.row {
				t.Errorf("row %s", s)
			}
		})
	}
}

func TestRead(t *testing.T) {
	p, err := Read(os.Getpid(), BootTime())
	if err != nil || p.PID != os.Getpid() || p.PPID != os.Getppid() || !slices.Equal(p.Args, os.Args) || p.Resident == 0 {
		t.Fatalf("%+v %v", p, err)
	}
	if d := time.Since(p.Started); d < -2*time.Second || d > time.Hour {
		t.Errorf("started %v ago", d)
	}
}

func TestParseStatNames(t *testing.T) {
	tail := " S 1 5 5 34816 5 4194560 0 0 0 0 100 50 0 0 20 0 1 0 200 4096 2 18446744073709551615 0 0 0 0 0 0 0 0 0 0 0 0 17 3 0 0 0 0 0 0 0 0 0 0 0 0 0"
	for _, name := range []string{"sh", "a b", ") S 1 (", ""} {
		p, err := parseStat("5 ("+name+")"+tail, time.Time{})
		if err != nil || p.Comm != name || p.PPID != 1 || p.Used != 1500*time.Millisecond || p.Processor != 3 || !p.Foreground {
			t.Errorf("%q: %+v %v", name, p, err)
		}
	}
	for _, bad := range []string{"", "5 sh S", "5 (sh", "5 (sh) S 1"} {
		if _, err := parseStat(bad, time.Time{}); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}
