package server

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gantry/api/errdefs"
)

func TestListen(t *testing.T) {
	dir, err := os.MkdirTemp("", "listen")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "deep", "core.sock")

	first, err := listenUnix(path, os.Getuid(), os.Getgid())
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	if _, err := listenUnix(path, os.Getuid(), os.Getgid()); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a socket in use: %v", err)
	}
	first.Close() // as when the process dies: the file stays
	second, err := listenUnix(path, os.Getuid(), os.Getgid())
	if err != nil {
		t.Fatalf("a stale socket: %v", err)
	}
	first.remove()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("another listener's socket was removed: %v", err)
	}
	second.remove()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("socket is left: %v", err)
	}
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := listenUnix(path, os.Getuid(), os.Getgid()); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a file: %v", err)
	}
}

func TestListenOnLongPath(t *testing.T) {
	path := filepath.Join(t.TempDir(), strings.Repeat("x", 120), "core.sock")
	for range 2 { // the second finds the first's file
		l, err := listenUnix(path, os.Getuid(), os.Getgid())
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
	}
	var _ net.Listener = (*socket)(nil)
}
