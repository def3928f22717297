package content

import (
	"os"
)

// disk is the few system calls whose order makes a commit safe against a crash;
// tests replace them to stop between any two.
type disk struct {
	sync    func(f *os.File) error
	rename  func(from, to string) error
	syncDir func(dir string) error
}

var realDisk = disk{
	sync:    (*os.File).Sync,
	rename:  os.Rename,
	syncDir: syncDir,
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
