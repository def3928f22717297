package logfile_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"gantry/api/logfile"
)

// lines writes a file of entries from to to.
func lines(t *testing.T, f logfile.Format, path string, from, to int) {
	t.Helper()
	enc, err := f.NewEncoder(nil)
	if err != nil {
		t.Fatal(err)
	}
	var b []byte
	for i := from; i < to; i++ {
		b = enc.Append(b, logfile.Stdout, at.Add(time.Duration(i)*time.Second), fmt.Appendf(nil, "line %d\n", i))
	}
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// pack compresses a file in its place.
func pack(t *testing.T, f logfile.Format, path string) {
	t.Helper()
	src, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	var b bytes.Buffer
	if err := f.Compress(&b, src); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path+logfile.Suffix, b.Bytes(), 0o600), os.Remove(path)); err != nil {
		t.Fatal(err)
	}
}

func readAll(t *testing.T, f *logfile.File, offset int64) (out []string) {
	t.Helper()
	d := f.Decoder(offset)
	var e logfile.Entry
	err := d.Next(&e)
	for ; err == nil; err = d.Next(&e) {
		out = append(out, strings.TrimSpace(strings.TrimPrefix(string(e.Line), "line ")))
	}
	if !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return out
}

func TestCompressed(t *testing.T) {
	for _, f := range []logfile.Format{logfile.JSON, logfile.Local} {
		t.Run(f.String(), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "log")
			for i := range 4 {
				lines(t, f, logfile.Name(path, i), 3000-1000*i, 4000-1000*i)
			}
			plain, err := f.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer logfile.Close(plain)
			pack(t, f, logfile.Name(path, 1))
			pack(t, f, logfile.Name(path, 3))
			// The second is on its way: both forms are there.
			again, _ := os.ReadFile(logfile.Name(path, 2))
			pack(t, f, logfile.Name(path, 2))
			os.WriteFile(logfile.Name(path, 2), again, 0o600)
			packed, err := f.Open(path)
			if err != nil {
				t.Fatal(err)
			}
			defer logfile.Close(packed)
			if len(packed) != 4 {
				t.Fatalf("%d files", len(packed))
			}
			for i := range packed {
				if packed[i].Generation != plain[i].Generation {
					t.Errorf("file %d is of generation %d, not %d", i, packed[i].Generation, plain[i].Generation)
				}
				for _, n := range []int{0, 1, 999, 1000, 1001} {
					off, found, err := plain[i].Tail(n)
					off2, found2, err2 := packed[i].Tail(n)
					if err != nil || err2 != nil || n > 0 && off != off2 || found != found2 {
						t.Errorf("file %d, last %d: %d at %d, %v, not %d at %d, %v", i, n, found2, off2, err2, found, off, err)
					}
					if n == 0 {
						continue
					}
					if got, want := readAll(t, packed[i], off), readAll(t, plain[i], off); strings.Join(got, " ") != strings.Join(want, " ") {
						t.Errorf("file %d from %d: %d entries, not %d", i, off, len(got), len(want))
					}
				}
			}
		})
	}
}

// TestCompressedByOthers reads what tells nothing of itself, and what lies.
func TestCompressedByOthers(t *testing.T) {
	dir := t.TempDir()
	text := filepath.Join(dir, "text")
	lines(t, logfile.JSON, text, 0, 100)
	plain, _ := os.ReadFile(text)
	write := func(extra string, content []byte, cut int) []byte {
		var b bytes.Buffer
		zw := gzip.NewWriter(&b)
		zw.Extra = []byte(extra)
		zw.Write(content)
		zw.Close()
		return b.Bytes()[:b.Len()-cut]
	}
	for _, tt := range []struct {
		name string
		file []byte
		want int // entries; -1 is some
	}{
		{"docker's", write(`{"lastTime":"2024-03-09T09:11:12.13Z"}`, plain, 0), 100},
		{"plain gzip", write("", plain, 0), 100},
		{"a size that is too small", write(`{"size":200}`, plain, 0), 2},
		{"a size below nothing", write(`{"size":-1}`, plain, 0), 100},
		{"torn", write("", plain, 20), -1},
		{"no gzip at all", plain, 0},
		{"empty", nil, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, strings.ReplaceAll(tt.name, " ", ""))
			os.WriteFile(logfile.Name(path, 1)+logfile.Suffix, tt.file, 0o600)
			f, err := logfile.JSON.OpenFile(path, 1)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			got := readAll(t, f, 0)
			if len(got) != tt.want && !(tt.want < 0 && len(got) > 0 && len(got) < 100) {
				t.Errorf("%d entries", len(got))
			}
			if off, n, err := f.Tail(1); err != nil || n != min(1, len(got)) || len(readAll(t, f, off)) != n {
				t.Errorf("last one: %d at %d, %v", n, off, err)
			}
		})
	}
}

// TestBomb pins that a small file that unpacks to much costs no memory.
func TestBomb(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	file, err := os.Create(logfile.Name(path, 1) + logfile.Suffix)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	zw := gzip.NewWriter(file)
	zw.Extra = fmt.Appendf(nil, `{"size":%d}`, 12<<20)
	for range 16 {
		zw.Write(make([]byte, 1<<20)) // one line without an end
	}
	zw.Close()
	f, err := logfile.JSON.OpenFile(path, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if got := readAll(t, f, 0); len(got) > 0 {
		t.Errorf("%d entries", len(got))
	}
	runtime.ReadMemStats(&after)
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 8<<20 {
		t.Errorf("%d bytes allocated to read it", allocated)
	}
}
