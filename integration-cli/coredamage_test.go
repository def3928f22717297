package integrationcli

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gantry/internal/testutil/corealone"
)

// TestDamagedCore damages each database of a core alone, and a blob and an ingest. What
// is damaged is named, nothing is begun anew over it, the rest goes on, and with the file
// put back all is as it was.
func TestDamagedCore(t *testing.T) {
	c := corealone.Start(t)
	name := c.Image()
	c.Ctr("run", "-d", "--runtime", "io.containerd.gantry.v2", name, "bg", "sleep", "1000")
	all := func() string {
		return c.Ctr("images", "ls", "-q") + c.Ctr("containers", "ls", "-q") + c.Ctr("snapshots", "ls") + c.Ctr("tasks", "ls")
	}
	before := all()
	const metadata, snapshots = "io.containerd.metadata.v1.bolt", "io.containerd.snapshotter.v1.overlayfs"
	for _, tc := range []struct {
		file string
		goes string // a command that goes on, "" for none
	}{
		{"root/" + metadata + "/meta.db", ""},
		{"state/" + metadata + "/boot.db", ""},
		{"root/" + snapshots + "/metadata.db", "images ls -q"},
	} {
		hows := []string{"emptied", "cut", "random", "a directory"}
		for i, how := range hows {
			if i > 0 && scale(1, 0) == 0 && i != 1+rand.IntN(3) {
				continue
			}
			t.Run(filepath.Base(tc.file)+" "+how, func(t *testing.T) {
				c.Terminate()
				path := filepath.Join(c.Dir, tc.file)
				held, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := damages[how](path, held); err != nil {
					t.Fatal(err)
				}
				damaged := lookAt(t, path)
				logged := len(c.Log())
				if err := c.TryLaunch(); err == nil {
					if tc.goes != "" {
						c.Ctr(strings.Fields(tc.goes)...)
					}
					c.Terminate()
				}
				if log := c.Log()[logged:]; !strings.Contains(log, path) || strings.Contains(log, "panic") || strings.Contains(log, "goroutine ") {
					t.Errorf("the log does not name %s:\n%s", path, log)
				}
				if now := lookAt(t, path); now != damaged {
					t.Errorf("the damaged file has changed")
				}
				if err := errors.Join(os.RemoveAll(path), os.WriteFile(path, held, 0o600)); err != nil {
					t.Fatal(err)
				}
				c.Launch()
				if now := all(); now != before {
					t.Errorf("afterwards:\n%s\nbefore:\n%s", now, before)
				}
			})
		}
	}
	t.Run("blob", func(t *testing.T) {
		blobs, err := filepath.Glob(filepath.Join(c.Dir, "root/io.containerd.content.v1.content/blobs/sha256/*"))
		if err != nil || len(blobs) == 0 {
			t.Fatal(blobs, err)
		}
		if err := os.Truncate(blobs[0], 3); err != nil {
			t.Fatal(err)
		}
		digest := "sha256:" + filepath.Base(blobs[0])
		if out, err := c.Try("content", "get", digest); err == nil || !strings.Contains(out, digest) || !strings.Contains(out, "damaged") {
			t.Errorf("read: %v: %s", err, out)
		}
		if out, err := c.Try("content", "get", "sha256:"+filepath.Base(blobs[1])); err != nil {
			t.Errorf("read another: %v: %s", err, out)
		}
		c.Image() // brings it again
		if out, err := c.Try("content", "get", digest); err != nil {
			t.Errorf("read it again: %v: %s", err, out)
		}
	})
	c.Remove("bg")
}

// lookAt is what is at a path.
func lookAt(t *testing.T, path string) string {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		return err.Error()
	}
	if fi.IsDir() {
		return "a directory"
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
