package leak

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// RemoveCgroups removes the cgroups of an engine on dir, as a boot would, and returns
// those that cannot be removed, since something is in them still.
func RemoveCgroups(dir string) (left []string) {
	for _, pattern := range []string{"/sys/fs/cgroup/*/%s", "/sys/fs/cgroup/%s"} {
		roots, _ := filepath.Glob(fmt.Sprintf(pattern, Instance(dir)))
		for _, root := range roots {
			var all []string
			_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					all = append(all, path)
				}
				return nil
			})
			for _, path := range slices.Backward(all) {
				thaw(path)
				if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
					left = append(left, path)
				}
			}
		}
	}
	return left
}

// thaw lets the frozen go on, and die if they have been killed.
func thaw(cgroup string) {
	for file, word := range map[string]string{"freezer.state": "THAWED", "cgroup.freeze": "0"} {
		if f, err := os.OpenFile(filepath.Join(cgroup, file), os.O_WRONLY, 0); err == nil {
			f.WriteString(word)
			f.Close()
		}
	}
}
