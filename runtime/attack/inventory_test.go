package attack_test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// inventory is all that there is to know of the host's part of a test: for each name
// inode, mode, owner, size, times of change, what it holds, and the mounts below.
type inventory map[string]string

func takeInventory(t *testing.T, dirs ...string) inventory {
	t.Helper()
	inv := inventory{}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			var st unix.Stat_t
			if err := unix.Lstat(path, &st); err != nil {
				return err
			}
			holds := ""
			switch st.Mode & unix.S_IFMT {
			case unix.S_IFLNK:
				holds, _ = os.Readlink(path)
			case unix.S_IFREG:
				b, _ := os.ReadFile(path)
				holds = string(b)
			}
			inv[path] = fmt.Sprintf("%d:%d %o %d:%d %d %d.%d %q", st.Dev, st.Ino, st.Mode, st.Uid, st.Gid, st.Nlink, st.Ctim.Sec, st.Ctim.Nsec, holds)
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		for _, dir := range dirs {
			if at := strings.Fields(line)[4]; strings.HasPrefix(at, dir) {
				inv["mount "+at] = line
			}
		}
	}
	return inv
}

// differences names what is not as it was.
func (before inventory) differences(after inventory) (names []string) {
	for name, was := range before {
		if is := after[name]; is != was {
			names = append(names, fmt.Sprintf("%s: %s, now %s", name, was, is))
		}
	}
	for name, is := range after {
		if _, ok := before[name]; !ok {
			names = append(names, name+": new: "+is)
		}
	}
	return names
}
