package gelf_test

import (
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"gantry/api/logfile"
	"gantry/daemon/logger/target"
	"gantry/daemon/logger/target/gelf"
	"gantry/internal/testutil/sink"
)

var (
	at = time.Date(2026, 2, 3, 4, 5, 6, 123456789, time.UTC)
	of = target.Container{
		ID: strings.Repeat("ab", 32), Name: "web", ImageID: "sha256:cd", ImageName: "busybox", Command: "sh -c x",
		Created: at, Tag: "a tag", Attrs: map[string]string{"team": "x", "_own": "y"},
	}
)

func TestMessages(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	// Noise, so that no compression makes one datagram of it.
	noise := make([]byte, 12<<10)
	r := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = "abcdefghijklmnopqrstuvwxyz0123456789"[r.IntN(36)]
	}
	for _, tt := range []struct {
		name, network, packing string
		options                map[string]string
	}{
		{"default", "udp", "gzip", nil},
		{"zlib", "udp", "zlib", map[string]string{"gelf-compression-type": "zlib", "gelf-compression-level": "9"}},
		{"none", "udp", "none", map[string]string{"gelf-compression-type": "none"}},
		{"tcp", "tcp", "none", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := sink.GELF(t, tt.network, "")
			c := map[string]string{"gelf-address": tt.network + "://" + s.Addr}
			maps.Copy(c, tt.options)
			if err := gelf.Check(c); err != nil {
				t.Fatal(err)
			}
			to, _, err := gelf.New(c, of)
			if err != nil {
				t.Fatal(err)
			}
			defer to.Close()
			err = to.Send(t.Context(), []target.Entry{
				{Stream: logfile.Stdout, Time: at, Line: []byte("one \"<ü>\"")},
				{Stream: logfile.Stdout, Time: at},
				{Stream: logfile.Stderr, Time: at, Line: noise},
			})
			if err == nil {
				err = to.Settle(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
			got := s.WaitN(t, 2)
			for i, own := range []map[string]string{
				{"short_message": "one \"<ü>\"", "level": "6"}, {"short_message": string(noise), "level": "3"},
			} {
				maps.Copy(own, map[string]string{
					"version": "1.1", "host": host, "timestamp": "1770091506.123", "_container_id": of.ID, "_container_name": "web",
					"_image_id": "sha256:cd", "_image_name": "busybox", "_command": "sh -c x", "_tag": "a tag",
					"_created": "2026-02-03T04:05:06.123456789Z", "_team": "x", "_own": "y", "@packing": tt.packing, "@error": "",
				})
				for k, v := range own {
					if got[i].Fields[k] != v {
						t.Errorf("message %d: %s=%q, want %q", i, k, got[i].Fields[k], v)
					}
				}
			}
			if n, _ := strconv.Atoi(got[1].Fields["@chunks"]); tt.network == "udp" && n < 5 {
				t.Errorf("12 KiB of noise came in %d chunks", n)
			}
		})
	}
}

// TestTooLarge: no number of chunks that is allowed holds it.
func TestTooLarge(t *testing.T) {
	s := sink.GELF(t, "udp", "")
	big := of
	big.Attrs = map[string]string{"big": strings.Repeat("x", 1<<20)}
	to, _, err := gelf.New(map[string]string{"gelf-address": "udp://" + s.Addr, "gelf-compression-type": "none"}, big)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	err = to.Send(t.Context(), []target.Entry{{Stream: logfile.Stdout, Time: at}, {Stream: logfile.Stdout, Time: at, Line: []byte("one")}})
	if r, ok := errors.AsType[*target.Refused](err); !ok || r.Index != 1 {
		t.Errorf("got %v", err)
	}
}

func TestPace(t *testing.T) {
	for _, tt := range []struct {
		options map[string]string
		want    target.Pace
	}{
		{nil, target.Pace{First: time.Second, Tries: 3}},
		{map[string]string{"gelf-tcp-max-reconnect": "5", "gelf-tcp-reconnect-delay": "0"}, target.Pace{Tries: 5}},
	} {
		c := map[string]string{"gelf-address": "tcp://127.0.0.1:1"}
		maps.Copy(c, tt.options)
		_, pace, err := gelf.New(c, of)
		if err != nil || pace != tt.want {
			t.Errorf("%v: %+v %v, want %+v", tt.options, pace, err, tt.want)
		}
	}
}

func TestNobodyThere(t *testing.T) {
	to, _, err := gelf.New(map[string]string{"gelf-address": "tcp://127.0.0.1:1"}, of)
	if err != nil {
		t.Fatal(err)
	}
	want := "gelf: cannot connect to GELF endpoint: 127.0.0.1:1 dial tcp 127.0.0.1:1: connect: connection refused"
	if err := to.Connect(t.Context()); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestCheck(t *testing.T) {
	for _, tt := range []struct{ address, key, value, err string }{
		{"", "tag", "", "gelf-address is a required parameter"},
		{"http://x:1", "tag", "", "gelf: endpoint needs to be TCP or UDP"},
		{"udp://x", "tag", "", "gelf: please provide gelf-address as proto://host:port"},
		{"udp://x:1", "gelf-compression-type", "zlib", ""},
		{"udp://x:1", "gelf-compression-type", "x", `unknown value "x" for log opt "gelf-compression-type" for gelf log driver`},
		{"udp://x:1", "gelf-compression-level", "10", `unknown value "10" for log opt "gelf-compression-level" for gelf log driver`},
		{"tcp://x:1", "gelf-compression-level", "1", "compression is only supported on UDP"},
		{"tcp://x:1", "gelf-tcp-max-reconnect", "-1", `"gelf-tcp-max-reconnect" must be a positive integer`},
		{"udp://x:1", "gelf-tcp-reconnect-delay", "1", `"gelf-tcp-reconnect-delay" is only valid for TCP`},
		{"udp://x:1", "bogus", "1", `unknown log opt "bogus" for gelf log driver`},
	} {
		err := gelf.Check(map[string]string{"gelf-address": tt.address, tt.key: tt.value})
		if (err == nil) != (tt.err == "") || err != nil && err.Error() != tt.err {
			t.Errorf("%s %s=%s: %v, want %s", tt.address, tt.key, tt.value, err, tt.err)
		}
	}
}
