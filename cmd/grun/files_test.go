package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestWritePid(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "init.pid")
	for _, pid := range []int{1, 23456} { // also over an older one
		if err := writePid(name, pid); err != nil {
			t.Fatal(err)
		}
	}
	b, _ := os.ReadFile(name)
	entries, _ := os.ReadDir(dir)
	if string(b) != "23456" || len(entries) != 1 {
		t.Errorf("%q, %v", b, entries)
	}
	if err := writePid(filepath.Join(dir, "no", "dir"), 1); err == nil {
		t.Error("no error for a directory that is missing")
	}
	if err := writePid("", 1); err != nil {
		t.Error(err)
	}
}

func TestConsoleSocket(t *testing.T) {
	for _, name := range []string{"s", strings.Repeat("long", 30)} {
		dir := filepath.Join(t.TempDir(), "d")
		os.Mkdir(dir, 0o700)
		path := filepath.Join(dir, name)
		l := listen(t, dir, name)
		conn, err := dial(path)
		if err != nil {
			t.Fatal(err)
		}
		f, err := os.Open("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		if err := sendConsole(conn, f); err != nil {
			t.Fatal(err)
		}
		f.Close()
		conn.Close()
		peer, err := l.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		buf, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(4))
		n, oobn, _, _, err := peer.ReadMsgUnix(buf, oob)
		if err != nil || string(buf[:n]) != "/dev/null" {
			t.Errorf("%q, %v", buf[:n], err)
		}
		cmsgs, _ := unix.ParseSocketControlMessage(oob[:oobn])
		if len(cmsgs) != 1 {
			t.Fatal("no descriptor came")
		}
		fds, _ := unix.ParseUnixRights(&cmsgs[0])
		unix.Close(fds[0])
		peer.Close()
	}
	if _, err := dial("/no/socket"); err == nil {
		t.Error("no error for a socket that is missing")
	}
}

// listen makes a socket whose path may be too long for an address.
func listen(t *testing.T, dir, name string) *net.UnixListener {
	t.Helper()
	t.Chdir(dir)
	short, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(short) })
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(short, "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	t.Cleanup(func() { l.Close() })
	if err := os.Rename(filepath.Join(short, "s"), name); err != nil {
		t.Fatal(err)
	}
	return l
}

// TestCopyEndsWithProcess: what was written is carried, a holder of the other end
// does not keep us.
func TestCopyEndsWithProcess(t *testing.T) {
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	to, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Repeat("x", 50_000)
	write.WriteString(text)
	interrupt(read) // before the copy begins: all is late
	copyFile(to, read)
	if b, _ := os.ReadFile(to.Name()); string(b) != text {
		t.Errorf("%d bytes of %d", len(b), len(text))
	}
}

func TestPreserved(t *testing.T) {
	if files, err := preserved(0, 0); err != nil || files != nil {
		t.Error(files, err)
	}
	if _, err := preserved(0, -1); err == nil {
		t.Error("a negative number is taken")
	}
	if _, err := preserved(10, 10000); err == nil {
		t.Error("descriptors that are not open are taken")
	}
}
