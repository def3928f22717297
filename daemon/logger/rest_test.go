package logger_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"gantry/api/logfile"
	"gantry/api/shimwire"
	"gantry/daemon/logger"
	"gantry/internal/testutil/shimlog"
)

// TestRest: a client that has read a shim's stream up to any frame, the middle of a line
// included, gets exactly what comes after it from the files, over rotation and
// compression, and nothing of what the next run writes; nor does the removal of the files
// take anything away.
func TestRest(t *testing.T) {
	for seed := range uint64(24) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 2))
			u := shimwire.LogURI{Path: filepath.Join(t.TempDir(), "log"), Socket: "/unused", MaxFile: 100}
			if seed%2 == 1 {
				u.Driver, u.Compress = shimwire.DriverLocal, seed%4 == 1
			}
			if seed%3 > 0 {
				u.MaxSize = 20 << 10
			}
			out := shimlog.Open(t, u)
			live := out.NewReader(shimwire.Hello{Stdout: true, Stderr: true})
			defer live.Close()
			var sent, got [3]bytes.Buffer
			write := func(n int) {
				for range n {
					s := logfile.Stream(1 + r.IntN(2))
					p := make([]byte, r.IntN(300))
					for i := range p {
						if p[i] = byte(r.Uint32()); r.IntN(40) == 0 {
							p[i] = '\n'
						}
					}
					if r.IntN(20) == 0 { // a line of several entries
						p = bytes.Repeat([]byte("long "), 8<<10)
					}
					if err := out.Write(s, p); err != nil {
						t.Fatal(err)
					}
					sent[s].Write(p)
				}
			}
			pos := live.Start()
			take := func(raw []byte) {
				for len(raw) > 0 {
					f, n, err := shimwire.Decode(raw)
					if err != nil {
						t.Fatal(err)
					}
					raw = raw[n:]
					if f.Kind == shimwire.Data {
						got[f.Stream].Write(f.Data)
						pos = f.Pos
					}
				}
			}
			write(1)
			for range r.IntN(30) { // some of it the client has read
				write(1 + r.IntN(3))
				if sent[1].Len()+sent[2].Len() == got[1].Len()+got[2].Len() {
					continue
				}
				raw, err := live.Next(nil)
				if err != nil {
					t.Fatal(err)
				}
				take(raw)
			}
			write(r.IntN(200))
			out.End()
			src := logger.Source{Path: u.Path, Format: u.Format()}
			rest, err := logger.OpenRest(src, pos)
			if err != nil {
				t.Fatal(err)
			}
			defer rest.Close()
			if err := out.Close(); err != nil {
				t.Fatal(err)
			}
			next := shimlog.Open(t, u)
			next.Write(logfile.Stdout, bytes.Repeat([]byte("of the next run\n"), r.IntN(5000)))
			next.Close()
			if err := os.RemoveAll(filepath.Dir(u.Path)); err != nil {
				t.Fatal(err)
			}
			rest.From(pos)
			for {
				f, err := rest.Read()
				if err != nil {
					t.Fatal(err)
				}
				if f.Kind == shimwire.End {
					break
				}
				if f.Kind != shimwire.Data {
					t.Fatalf("frame of kind %v", f.Kind)
				}
				got[f.Stream].Write(f.Data)
			}
			if _, err := rest.Read(); err != io.EOF {
				t.Errorf("after the end: %v", err)
			}
			for _, s := range []logfile.Stream{logfile.Stdout, logfile.Stderr} {
				if !bytes.Equal(got[s].Bytes(), sent[s].Bytes()) {
					t.Errorf("%v: %d bytes of %d, or others", s, got[s].Len(), sent[s].Len())
				}
			}
		})
	}
}
