// Package unixsocket reaches sockets whose paths do not fit a socket address.
package unixsocket

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// MaxPath is what fits sun_path with its NUL, in bytes.
const MaxPath = 107

// Near returns a name for the socket at path that fits: a longer one goes through a
// descriptor of its directory, which release closes once the socket is bound or dialled.
func Near(path string) (name string, release func(), err error) {
	if len(path) <= MaxPath {
		return path, func() {}, nil
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &os.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir, filepath.Base(path)), func() { unix.Close(dir) }, nil
}
