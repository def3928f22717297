package boot

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/failpoint"
	"gantry/api/selfexe"
	"gantry/api/shimwire"
)

// start makes the socket and the serving process, and prints the address.
func (a args) start(stdin io.Reader, stdout io.Writer) (err error) {
	params, err := a.readParams(stdin)
	if err != nil {
		return fmt.Errorf("read bootstrap parameters: %w", err)
	}
	bundle, err := a.dir()
	if err != nil {
		return err
	}
	path := a.socketPath(params, groupOf(bundle, a.id))
	address := "unix://" + path
	l, err := listen(path)
	switch {
	case errors.Is(err, errServed): // the group has its shim
	case err != nil:
		return err
	default:
		var shim *os.Process
		failpoint.Hit("shim/boot.start.listening")
		shim, err = a.spawn(l, address, bundle)
		failpoint.Hit("shim/boot.start.spawned")
		l.Close()
		if err != nil {
			os.Remove(path)
			return err
		}
		defer func() {
			if err != nil { // nobody knows of it
				shim.Kill()
				os.Remove(path)
			}
			shim.Release()
		}()
		if err = writeFile(filepath.Join(bundle, "shim.pid"), strconv.Itoa(shim.Pid)); err != nil {
			return err
		}
		failpoint.Hit("shim/boot.start.pid-noted")
	}
	if err = writeFile(filepath.Join(bundle, "address"), address); err != nil {
		return err
	}
	failpoint.Hit("shim/boot.start.address-noted")
	_, err = stdout.Write(answer(params, address))
	failpoint.Hit("shim/boot.start.answered")
	return err
}

// groupOf returns the container's group: a pod's id, or its own.
func groupOf(bundle, id string) string {
	raw, err := os.ReadFile(filepath.Join(bundle, "config.json"))
	if err != nil {
		return id
	}
	var spec struct{ Annotations map[string]string }
	if json.Unmarshal(raw, &spec) != nil {
		return id
	}
	if group := shimwire.Group(spec.Annotations); group != "" {
		return group
	}
	return id
}

var errServed = errors.New("socket is served already")

// listen makes the socket, in place of a dead one. errServed when somebody answers there.
func listen(path string) (*net.UnixListener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o711); err != nil {
		return nil, err
	}
	for range 2 {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err == nil {
			l.SetUnlinkOnClose(false)
			return l, os.Chmod(path, 0o600)
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return nil, err
		}
		if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
			c.Close()
			return nil, errServed
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("listen at %s: %w", path, unix.EADDRINUSE)
}

// spawn starts the serving process.
func (a args) spawn(l *net.UnixListener, address, bundle string) (*os.Process, error) {
	f, err := l.File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	exe, err := selfexe.Open(selfexe.Self) // containers are cloned from the serving process
	if err != nil {
		return nil, err
	}
	defer exe.Close()
	// What the engine has left open is not for the shim.
	if err := unix.CloseRange(3, math.MaxUint32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("close inherited files: %w", err)
	}
	program, err := outOfTheWay(exe)
	if err != nil {
		return nil, err
	}
	defer unix.Close(program)
	cmd := exec.Command(fmt.Sprintf("/proc/self/fd/%d", program),
		"-namespace", a.namespace, "-id", a.id, "-address", a.address, "-publish-binary", a.publish, "-socket", address, "-listen-fd", "3")
	cmd.Args[0] = os.Args[0]
	if a.debug {
		cmd.Args = append(cmd.Args, "-debug")
	}
	cmd.Args = append(cmd.Args, "serve")
	cmd.Dir = bundle
	cmd.Env = serveEnv(os.Environ())
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start serving process: %w", err)
	}
	return cmd.Process, nil
}

// outOfTheWay gives a descriptor, closed by execve, that cmd.ExtraFiles do not take the
// place of.
func outOfTheWay(f *os.File) (int, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 8)
	if err != nil {
		return -1, fmt.Errorf("duplicate descriptor of own executable: %w", err)
	}
	return fd, nil
}

// serveEnv lets one thread at a time run Go code. Each has its own half-used spans of
// memory, a quarter of a MiB, and streams are copied as fast with one, since those at
// the other ends are other processes. Changed in a running process it costs more than
// it saves.
func serveEnv(env []string) []string {
	const name = "GOMAXPROCS="
	env = slices.DeleteFunc(env, func(kv string) bool { return strings.HasPrefix(kv, name) })
	return append(env, name+"1")
}

// writeFile makes a file appear whole.
func writeFile(path, text string) error {
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path))
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
