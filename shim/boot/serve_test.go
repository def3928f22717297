package boot_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"
)

// TestServe is an engine that executes the serving shim itself: it connects before the
// shim runs, and its own file of the program, detached and read-only, is the one that
// runs: no second execve.
func TestServe(t *testing.T) {
	e := newEngine(t, "")
	k := e.newBundle(t, nil, "sleep", "1000")
	shim := k.serve(protected(t), "containerd-shim-gantry-v2")
	if exe, err := os.Readlink("/proc/" + strconv.Itoa(shim.Pid) + "/exe"); err != nil || exe != "/" {
		t.Errorf("the shim runs from %q, %v; the detached mount is /", exe, err)
	}
	k.create(nil)
	k.start("")
	if sid, err := unix.Getsid(shim.Pid); err != nil || sid != shim.Pid {
		t.Errorf("session %d of shim %d, %v", sid, shim.Pid, err)
	}
	k.kill("", 9)
	if got := k.wait(""); got != 137 {
		t.Errorf("exit status %d", got)
	}
	k.remove()
	e.await(t, "create", "start", "exit init 137", "delete")
}

// TestServeUnprotected pins that the shim protects its program when its engine has not,
// and that delete finds the socket of a shim that was killed.
func TestServeUnprotected(t *testing.T) {
	e := newEngine(t, "")
	k := e.newBundle(t, nil, "sleep", "1000")
	f, err := os.Open(shimBinary)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	shim := k.serve(f, "containerd-shim-gantry-v2")
	k.create(nil)
	k.start("")
	if exe, err := os.Readlink("/proc/" + strconv.Itoa(shim.Pid) + "/exe"); err != nil || exe == shimBinary {
		t.Errorf("the shim runs from %q, %v", exe, err)
	}
	// k.clean kills it, and looks for what delete has left
}

// protected is a detached read-only mount of the shim's binary.
func protected(t *testing.T) *os.File {
	t.Helper()
	fd, err := unix.OpenTree(unix.AT_FDCWD, shimBinary, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "shim")
	t.Cleanup(func() { f.Close() })
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr); err != nil {
		t.Fatal(err)
	}
	return f
}

// serve makes the task's socket, connects to it, and executes the program as its shim.
func (k *task) serve(program *os.File, argv0 string) *os.Process {
	k.t.Helper()
	path := filepath.Join(k.dir, "s", k.id)
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		k.t.Fatal(err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		k.t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	defer l.Close()
	k.dial("unix://" + path)
	socket, err := l.File()
	if err != nil {
		k.t.Fatal(err)
	}
	defer socket.Close()
	cmd := exec.Command("/proc/self/fd/4", "-namespace", "test", "-id", k.id, "-address", filepath.Join(k.dir, "sock"),
		"-socket", "unix://"+path, "-listen-fd", "3", "-debug", "serve")
	cmd.Args[0] = argv0
	cmd.Dir = k.bundle
	cmd.Env = append(os.Environ(), "TTRPC_ADDRESS="+k.events(), "GOMAXPROCS=1")
	cmd.ExtraFiles = []*os.File{socket, program}
	if err := cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	go cmd.Wait() //nolint:errcheck // reaped; ends with the shim
	if err := os.WriteFile(filepath.Join(k.bundle, "shim.pid"), []byte(strconv.Itoa(cmd.Process.Pid)), 0o644); err != nil {
		k.t.Fatal(err)
	}
	return cmd.Process
}
