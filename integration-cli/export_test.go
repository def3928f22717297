package integrationcli

import (
	"archive/tar"
	"crypto/sha256"
	"io"
	"strings"
	"testing"
)

// TestExportSame: the same tree gives the same bytes, of a container that runs, is paused
// and is down, of one with the same files, and whenever it was looked at.
func TestExportSame(t *testing.T) {
	e := start(t)
	const make = "mkdir /x; echo a >/x/a; ln /x/a /x/b; ln -s a /x/l; mkfifo /x/p; mknod /x/n c 1 3; truncate -s 1M /x/sparse; touch /vol/unseen; " +
		"find /x -exec touch -h -d @1000000000 {} +; touch -d @1000000000 /; cat /x/a >/dev/null"
	run := func(name string) {
		e.Must("run", "-d", "--name", name, "-v", "/vol", image, "sh", "-c", make+"; touch /tmp/ready; touch -d @1000000000 /tmp/ready /tmp /vol; sleep 1000")
		eventually(t, "the files are there", func() bool { return e.Docker("exec", name, "test", "-e", "/tmp/ready").Code == 0 })
	}
	run("one")
	export := func(name string) (sum [32]byte, body string) {
		body = e.Docker("export", name).Stdout
		return sha256.Sum256([]byte(body)), body
	}
	first, body := export("one")
	e.Must("exec", "one", "cat", "/x/a")
	e.Must("pause", "one")
	if again, _ := export("one"); again != first {
		t.Error("paused, the tree gives other bytes")
	}
	e.Must("unpause", "one")
	e.Must("kill", "one")
	if again, _ := export("one"); again != first {
		t.Error("down, the tree gives other bytes")
	}
	seen := map[string]*tar.Header{}
	last := ""
	for r := tar.NewReader(strings.NewReader(body)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		seen[h.Name] = h
		if !h.AccessTime.IsZero() || !h.ChangeTime.IsZero() || h.Uname != "" {
			t.Errorf("%s has what differs from look to look: %+v", h.Name, h)
		}
		if parent := h.Name[:strings.LastIndexByte(strings.TrimSuffix("/"+h.Name, "/"), '/')]; !strings.HasPrefix(last, parent) {
			t.Errorf("%s comes after %s", h.Name, last)
		}
		last = h.Name
	}
	for name, kind := range map[string]byte{
		"x/a": tar.TypeReg, "x/b": tar.TypeLink, "x/l": tar.TypeSymlink, "x/p": tar.TypeFifo, "x/n": tar.TypeChar,
		"x/sparse": tar.TypeReg, "vol/": tar.TypeDir, ".dockerenv": tar.TypeReg, "etc/hosts": tar.TypeReg,
	} {
		if h := seen[name]; h == nil || h.Typeflag != kind {
			t.Errorf("%s: %+v, want type %q", name, h, kind)
		}
	}
	if h := seen["etc/hosts"]; h != nil && h.Size != 0 || seen["vol/unseen"] != nil {
		t.Error("what is mounted is in the export")
	}
}
