// Package deadmount mounts a file system whose server can stop answering, as that of a
// network's does: whoever touches it then sleeps in the kernel and can't be killed.
//
// It speaks the FUSE protocol itself (linux/fuse.h, version 7.31): the descriptor of a
// library's server may be inherited by the programs under test, and would keep the
// connection alive.
package deadmount

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/internal/testutil/need"
)

// Mount is a mounted file system with an empty file "file" and an empty directory "dir".
type Mount struct {
	Dir  string
	dev  int
	dead atomic.Bool
	over chan struct{} // closed when serve has ended
	met  atomic.Int64  // requests that were left unanswered
}

// New mounts one that answers. At the end of the test it is aborted, which wakes who
// sleeps in it, and unmounted.
func New(t testing.TB) *Mount {
	t.Helper()
	need.Root(t, "mounts a file system")
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("needs /dev/fuse: %v", err)
	}
	dir, err := os.MkdirTemp("", "deadmount") // not t.TempDir, whose removal looks inside
	if err != nil {
		t.Fatal(err)
	}
	m := &Mount{Dir: dir, dev: fd, over: make(chan struct{})}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("deadmount", dir, "fuse.deadmount", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		t.Fatal(err)
	}
	go m.serve() // ends with the connection
	t.Cleanup(func() {
		m.Abort()
		<-m.over
		unix.Close(fd)
		if err := os.Remove(dir); err != nil {
			t.Error(err)
		}
	})
	return m
}

// Die makes the server read on and answer nothing any more.
func (m *Mount) Die() { m.dead.Store(true) }

// Met is how many requests the dead server has left unanswered.
func (m *Mount) Met() int { return int(m.met.Load()) }

// Abort ends the file system: who sleeps in it gets an error.
func (m *Mount) Abort() {
	unix.Unmount(m.Dir, unix.MNT_FORCE) // aborts the connection, in use or not
	unix.Unmount(m.Dir, unix.MNT_DETACH)
}

// Opcodes of the protocol.
const (
	opLookup  = 1
	opForget  = 2
	opGetattr = 3
	opOpen    = 14
	opStatfs  = 17
	opInit    = 26
	opOpendir = 27
	opReaddir = 28
)

type header struct {
	Len, Op          uint32
	Unique, Node     uint64
	UID, GID, PID, _ uint32
}

type attr struct {
	Ino, Size, Blocks, Atime, Mtime, Ctime         uint64
	AtimeNs, MtimeNs, CtimeNs                      uint32
	Mode, Nlink, UID, GID, Rdev, Blksize, Reserved uint32
}

func (m *Mount) serve() {
	defer close(m.over)
	buf := make([]byte, 1<<20)
	for {
		n, err := unix.Read(m.dev, buf)              // not by os.File: poll knows the device from its mount on only
		if err == unix.ENOENT || err == unix.EINTR { // the request was taken back
			continue
		}
		if err != nil {
			return
		}
		var h header
		if binary.Read(bytes.NewReader(buf[:n]), binary.NativeEndian, &h) != nil {
			return
		}
		if m.dead.Load() {
			m.met.Add(1)
			continue
		}
		m.answer(h, buf[binary.Size(h):n])
	}
}

func (m *Mount) answer(h header, body []byte) {
	if h.Op == opForget {
		return
	}
	data, errno := reply(h, body)
	out := new(bytes.Buffer)
	for _, v := range []any{uint32(16 + len(data)), -int32(errno), h.Unique, data} {
		binary.Write(out, binary.NativeEndian, v)
	}
	unix.Write(m.dev, out.Bytes()) // where this fails, the next read does
}

// Nodes: 1 the root, 2 the file, 3 the directory. Nothing is cached by the kernel.
func reply(h header, body []byte) ([]byte, syscall.Errno) {
	switch h.Op {
	case opInit:
		return encode([]uint32{7, 31, 0, 0, 0, 4096, 1}, make([]byte, 36)), 0
	case opGetattr:
		return encode(make([]uint64, 2), attrOf(h.Node)), 0
	case opLookup:
		node := map[string]uint64{"file": 2, "dir": 3}[string(bytes.TrimRight(body, "\x00"))]
		if node == 0 || h.Node != 1 {
			return nil, syscall.ENOENT
		}
		return encode([]uint64{node, 0, 0, 0, 0}, attrOf(node)), 0
	case opOpen, opOpendir:
		return make([]byte, 16), 0
	case opReaddir:
		return nil, 0
	case opStatfs:
		return make([]byte, 80), 0
	}
	return nil, syscall.ENOSYS
}

func attrOf(node uint64) attr {
	a := attr{Ino: node, Mode: syscall.S_IFDIR | 0o755, Nlink: 2, Blksize: 4096}
	if node == 2 {
		a.Mode, a.Nlink = syscall.S_IFREG|0o644, 1
	}
	return a
}

func encode(parts ...any) []byte {
	out := new(bytes.Buffer)
	for _, p := range parts {
		binary.Write(out, binary.NativeEndian, p)
	}
	return out.Bytes()
}
