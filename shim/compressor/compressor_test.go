package compressor_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/api/logfile"
	"gantry/shim/compressor"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == compressor.Action {
		os.Exit(compressor.Main(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func TestCompress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	enc, _ := logfile.Local.NewEncoder(nil)
	var want []byte
	for i := range 5000 {
		want = enc.Append(want, logfile.Stdout, time.Unix(int64(1+i), 0), []byte("a line\n"))
	}
	os.WriteFile(path, want, 0o600)
	src, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer src.Close()
	dst, err := os.Create(logfile.Name(path, 1) + logfile.Suffix)
	if err != nil {
		t.Fatal(err)
	}
	defer dst.Close()
	if err := compressor.Compress(logfile.Local, dst, src); err != nil {
		t.Fatal(err)
	}
	f, err := logfile.Local.OpenFile(path, 1)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	got := make([]byte, len(want)+1)
	if n, _ := f.ReadAt(got, 0); string(got[:n]) != string(want) || f.Generation != 1e9 {
		t.Errorf("%d bytes of %d, generation %d", n, len(want), f.Generation)
	}
	// What can't be written is told.
	ro, _ := os.Open(path)
	defer ro.Close()
	if err := compressor.Compress(logfile.Local, ro, src); err == nil || !strings.Contains(err.Error(), "bad file descriptor") {
		t.Errorf("to a file that is not open for writing: %v", err)
	}
}
