package compression_test

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"
	"os/exec"
	"strings"
	"testing"

	"gantry/api/compression"
	"gantry/internal/testutil/need"
)

func TestReader(t *testing.T) {
	text := strings.Repeat("some text ", 10000)
	for _, c := range []struct {
		program string
		kind    compression.Kind
	}{
		{"gzip", compression.Gzip}, {"zstd", compression.Zstd}, {"xz", compression.Xz}, {"bzip2", compression.Bzip2}, {"cat", compression.None},
	} {
		t.Run(c.program, func(t *testing.T) {
			args := []string{"-c"}
			if c.program == "cat" {
				args = nil
			}
			cmd := exec.Command(need.Command(t, c.program), args...)
			cmd.Stdin = strings.NewReader(text)
			packed, err := cmd.Output()
			if err != nil {
				t.Fatal(err)
			}
			r, kind, err := compression.Reader(bytes.NewReader(packed))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(r)
			if err != nil || string(got) != text || kind != c.kind || r.Close() != nil {
				t.Errorf("%d bytes as %s, %v", len(got), kind, err)
			}
		})
	}
}

// TestXzDictionary refuses a stream that says that it needs 4 GiB, which a few bytes could
// then fill.
func TestXzDictionary(t *testing.T) {
	cmd := exec.Command(need.Command(t, "xz"), "-c")
	cmd.Stdin = strings.NewReader("some text")
	p, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	const block = 12 // after the stream's header: size, flags, filter, size and dictionary, padding, CRC
	if p[block+2] != 0x21 {
		t.Fatalf("no LZMA2 in % x", p)
	}
	p[block+4] = 40
	sum := block + 4*int(p[block])
	binary.LittleEndian.PutUint32(p[sum:], crc32.ChecksumIEEE(p[block:sum]))
	r, _, err := compression.Reader(bytes.NewReader(p))
	if err == nil {
		_, err = io.ReadAll(r)
	}
	if err == nil || !strings.Contains(err.Error(), "dictionary") {
		t.Errorf("unpacked: %v", err)
	}
}

func TestReaderShort(t *testing.T) {
	for _, in := range []string{"", "x", "BZ", "\x1f\x8b"} {
		r, kind, err := compression.Reader(strings.NewReader(in))
		if err != nil || kind != compression.None {
			t.Fatalf("%q: %s, %v", in, kind, err)
		}
		if got, err := io.ReadAll(r); err != nil || string(got) != in {
			t.Errorf("%q became %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"\x1f\x8b\x08\x00", "\x28\xb5\x2f\xfdxxxxxx", "\xfd7zXZ\x00xx", "BZhxxx"} {
		r, _, err := compression.Reader(strings.NewReader(in))
		if err == nil {
			_, err = io.ReadAll(r)
		}
		if err == nil {
			t.Errorf("%q was unpacked", in)
		}
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte("\x1f\x8b\x08\x00"))
	f.Add([]byte("\x28\xb5\x2f\xfd"))
	f.Add([]byte("\xfd7zXZ\x00"))
	f.Add([]byte("BZh9"))
	f.Fuzz(func(_ *testing.T, p []byte) {
		r, _, err := compression.Reader(bytes.NewReader(p))
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, io.LimitReader(r, 1<<20))
		_ = r.Close()
	})
}
