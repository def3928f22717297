package task

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"gantry/api/shimwire"
)

// regain is the last attempt to reach a shim that the bundle's bootstrap parameters do
// not lead to, because they were damaged: a shim of ours has its address among its
// arguments. One that lives and cannot be reached all the same is killed, since nobody
// would end it later.
func (m *Manager) regain(ctx context.Context, b *bundle) (*shim, error) {
	s := m.newShim(b, b.binary())
	defer s.leave()
	fd, pid, err := s.process()
	if err != nil {
		return nil, err
	}
	defer unix.Close(fd)
	boot, err := bootstrapOf(pid)
	if err == nil {
		if was, lerr := loadBootstrap(b); lerr == nil && was == boot {
			err = errors.New("nobody listens at its address")
		}
	}
	if err == nil {
		err = m.note(b, boot)
	}
	if err == nil {
		var found *shim
		if found, err = m.reach(ctx, b); err == nil || errors.Is(err, errNoTask) {
			found.log.WarnContext(ctx, "bootstrap parameters of a shim were damaged, regained from its process", "shim", pid)
			return found, err
		}
	}
	m.log.WarnContext(ctx, "shim is out of reach, killing it", "namespace", b.ns, "container", b.id, "shim", pid, "err", err)
	if kerr := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); kerr != nil && !errors.Is(kerr, unix.ESRCH) {
		return nil, fmt.Errorf("kill shim %d: %w", pid, kerr)
	}
	return nil, err
}

// note puts parameters in the place of damaged ones.
func (m *Manager) note(b *bundle, boot bootstrap) error {
	path := filepath.Join(b.path, fileBootstrap)
	if st, err := os.Lstat(path); err == nil && st.IsDir() {
		if err := os.RemoveAll(path); err != nil {
			return err
		}
	}
	return boot.save(b)
}

// bootstrapOf reads the parameters from the arguments of a shim that the core has
// executed itself, see serve.
func bootstrapOf(pid int) (bootstrap, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil {
		return bootstrap{}, err
	}
	boot := bootstrap{Version: 3, Protocol: "ttrpc"}
	args := bytes.Split(raw, []byte{0})
	for i, arg := range args {
		switch strings.TrimLeft(string(arg), "-") {
		case "socket":
			if i+1 < len(args) {
				boot.Address = string(args[i+1])
			}
		case "one-task":
			boot.OneTask = true
		}
	}
	return boot, boot.validate()
}

// binaryOf is the shim of the bundle: ours when what was noted is no file any more, "" when
// none was noted.
func (m *Manager) binaryOf(b *bundle) string {
	if _, err := os.Lstat(filepath.Join(b.path, fileBinary)); errors.Is(err, os.ErrNotExist) {
		return ""
	}
	binary := b.binary()
	if st, err := os.Stat(binary); filepath.IsAbs(binary) && err == nil && st.Mode().IsRegular() {
		return binary
	}
	own := filepath.Join(m.cfg.ShimDir, shimwire.Binary)
	m.log.Warn("note of a shim's binary is damaged", "namespace", b.ns, "container", b.id, "using", own)
	return own
}
