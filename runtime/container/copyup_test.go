package container_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestCopyUpUnderChange: somebody who shares the root filesystem swaps what is being copied
// for links that lead out of it. What comes up is never from outside, and create ends.
func TestCopyUpUnderChange(t *testing.T) {
	b := newBed(t)
	outside := t.TempDir()
	os.WriteFile(outside+"/secret", []byte("secret\n"), 0o644)
	top := b.rootfs() + "/data"
	for _, d := range []string{"", "/a", "/a/b", "/spare"} {
		if err := os.Mkdir(top+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range []string{"/a/secret", "/a/b/secret", "/secret"} {
		os.WriteFile(top+f, []byte("own\n"), 0o644)
	}
	os.Symlink(outside, top+"/link")
	os.Symlink(outside+"/secret", top+"/filelink")
	unix.Mkfifo(top+"/fifo", 0o644)
	stop := make(chan struct{})
	var swaps sync.WaitGroup
	swaps.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			unix.Renameat2(-1, top+"/a/b", -1, top+"/link", unix.RENAME_EXCHANGE)
			unix.Renameat2(-1, top+"/a/secret", -1, top+"/filelink", unix.RENAME_EXCHANGE)
			unix.Renameat2(-1, top+"/secret", -1, top+"/fifo", unix.RENAME_EXCHANGE)
			unix.Renameat2(-1, top+"/a", -1, top+"/spare", unix.RENAME_EXCHANGE)
			time.Sleep(50 * time.Microsecond)
		}
	})
	defer swaps.Wait()
	defer close(stop)
	rounds, copied := 15, 0
	if os.Getenv("GANTRY_SOAK") == "1" {
		rounds = 1000
	}
	for range rounds {
		s := b.spec("sleep", "100")
		s.Mounts = append(s.Mounts, mount("/data", "tmpfs", "tmpfs", "tmpcopyup", "size=1m"))
		c, err := b.create(s, nil)
		if err != nil { // it saw something change
			continue
		}
		copied += checkOwn(t, fmt.Sprintf("/proc/%d/root/data", c.Pid()))
		b.delete(c)
	}
	if copied == 0 {
		t.Errorf("no file was copied in %d rounds", rounds)
	}
}

// checkOwn counts the regular files below a directory, all of which are to be "own".
func checkOwn(t *testing.T, dir string) (n int) {
	t.Helper()
	filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		n++
		if text, err := os.ReadFile(path); err != nil || string(text) != "own\n" {
			t.Fatalf("%s: %q %v", path, text, err)
		}
		return nil
	})
	return n
}
