package keeper

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"gantry/api/shimwire"
)

// child is a keeper that this daemon has started.
type child struct {
	cmd  *exec.Cmd
	init shimwire.Fifos
	done chan struct{} // closed when it has been reaped
}

func (c *child) kill() {
	c.cmd.Process.Kill() //nolint:errcheck // it has ended
	<-c.done
}

// launch starts a keeper. The socket listens when it returns.
func (k *Keepers) launch(id string, init shimwire.Fifos) error {
	binary, err := k.binary()
	if err != nil {
		return err
	}
	l, err := shimwire.Listen(k.socket(id))
	if err != nil {
		return err
	}
	defer l.Close()
	socket, err := l.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	args := []string{"-namespace", "moby", "-id", id, "-socket", k.socket(id), "-listen-fd", "3"}
	if k.cfg.Debug {
		args = append(args, "-debug")
	}
	c := &child{cmd: exec.Command(binary, append(args, "keep")...), init: init, done: make(chan struct{})}
	c.cmd.Dir, c.cmd.Env = "/", append(environ(), "GOMAXPROCS=1")
	c.cmd.ExtraFiles = []*os.File{socket}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := c.cmd.Start(); err != nil {
		return fmt.Errorf("start keeper: %w", err)
	}
	k.mu.Lock()
	k.children[id] = c
	k.mu.Unlock()
	go k.reap(id, c) // ends with the keeper
	return nil
}

// environ is ours without what says something about this process alone.
func environ() []string {
	return slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		return slices.Contains([]string{"NOTIFY_SOCKET", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC"}, name)
	})
}

func (k *Keepers) binary() (string, error) {
	if k.cfg.Binary != "" {
		return k.cfg.Binary, nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	return filepath.Join(filepath.Dir(self), shimwire.Binary), nil
}

// reap waits for a keeper, and puts another in the place of one that is missed: without
// it the container would stand still when its fifos are full.
func (k *Keepers) reap(id string, c *child) {
	c.cmd.Wait() //nolint:errcheck // however it ended
	close(c.done)
	if !k.missed(id, c) {
		return
	}
	k.log.Warn("keeper of a container's streams died", "container", id, "status", c.cmd.ProcessState.String())
	time.Sleep(pause)
	if err := k.replace(id, c); err != nil {
		k.log.Error("replace keeper", "container", id, "err", err)
	}
}

// replaceTimeout bounds the wait for the container's lane too.
const replaceTimeout = time.Minute

func (k *Keepers) replace(id string, c *child) error {
	ctx, cancel := context.WithTimeout(context.Background(), replaceTimeout)
	defer cancel()
	unlock, err := k.lanes.Lock(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	if !k.missed(id, c) {
		return nil
	}
	if err := k.launch(id, c.init); err != nil {
		return err
	}
	return shimwire.OpenFifos(ctx, k.socket(id), c.init)
}

func (k *Keepers) missed(id string, c *child) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.children[id] == c
}
