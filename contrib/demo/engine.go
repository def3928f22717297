package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/moby/sys/mountinfo"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"gantry/daemon/config"
	"gantry/daemon/host"
	"gantry/daemon/network/nft"
)

// engine is a gantryd on directories, a socket and a bridge of its own.
type engine struct {
	dir, docker string
	cmd         *exec.Cmd
	exited      chan error // once cmd runs
	up, ended   bool
}

func newEngine(docker string) (*engine, error) {
	dir, err := temp()
	return &engine{dir: dir, docker: docker}, err
}

func (e *engine) bridge() string { return fmt.Sprintf("gtdemo%d", os.Getpid()%100000) }

func (e *engine) pid() int { return e.cmd.Process.Pid }

// launch starts the engine and waits until it answers.
func (e *engine) launch(ctx context.Context, bin string) error {
	log, err := os.Create(e.path("log"))
	if err != nil {
		return err
	}
	defer log.Close()
	if err := os.WriteFile(e.path("daemon.json"), []byte("{}"), 0o600); err != nil {
		return err
	}
	e.cmd = exec.Command(filepath.Join(bin, "gantryd"), "--data-root", e.path("data"), "--exec-root", e.path("exec"),
		"--config-file", e.path("daemon.json"), "-H", "unix://"+e.path("docker.sock"), "--pidfile", e.path("pid"), "--bridge", e.bridge())
	e.cmd.Env = append(os.Environ(), "GANTRY_TRACE_FILE="+e.path("trace"))
	e.cmd.Stdout, e.cmd.Stderr = log, log
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt is ours to handle
	if err := e.cmd.Start(); err != nil {
		e.cmd = nil
		return err
	}
	e.exited = make(chan error, 1)
	go func() { e.exited <- e.cmd.Wait() }()
	return e.ready(ctx)
}

func (e *engine) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		if c, err := net.Dial("unix", e.path("docker.sock")); err == nil {
			c.Close()
			if _, err := e.client(ctx, nil, "version"); err == nil {
				e.up = true
				return nil
			}
		}
		select {
		case err := <-e.exited:
			e.ended = true
			return fmt.Errorf("the engine ended: %w\n%s", err, e.log())
		case <-ctx.Done():
			return fmt.Errorf("the engine does not answer: %w\n%s", ctx.Err(), e.log())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (e *engine) log() string {
	text, _ := os.ReadFile(e.path("log"))
	return string(text)
}

// client runs the docker CLI and returns what it prints.
func (e *engine) client(ctx context.Context, stdin []byte, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, e.docker, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+e.path("docker.sock"), "DOCKER_CONFIG="+e.dir, "DOCKER_CONTEXT=")
	cmd.Stdin = bytes.NewReader(stdin)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimRight(string(out), "\n") + "\n", nil
}

var containerID = regexp.MustCompile("[0-9a-f]{64}")

// short makes names fit to read.
func (e *engine) short(s string) string {
	s = strings.ReplaceAll(s, e.dir, "…")
	s = containerID.ReplaceAllStringFunc(s, func(id string) string { return id[:12] })
	if r := []rune(s); len(r) > 120 {
		s = string(r[:119]) + "…"
	}
	return s
}

// stop ends the engine in good order.
func (e *engine) stop() error {
	if e.cmd == nil || e.ended {
		return nil
	}
	e.cmd.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(20*time.Second, func() { e.cmd.Process.Kill() })
	defer kill.Stop()
	err := <-e.exited
	e.ended = true
	if err != nil {
		return fmt.Errorf("the engine's end: %w\n%s", err, e.log())
	}
	return nil
}

// close removes containers, engine, bridge and directories.
func (e *engine) close() error {
	var errs []error
	if e.up && !e.ended {
		errs = append(errs, e.removeContainers())
	}
	if err := e.stop(); e.up { // one that never came up may end as it likes
		errs = append(errs, err)
	}
	if l, err := netlink.LinkByName(e.bridge()); err == nil {
		errs = append(errs, netlink.LinkDel(l))
	}
	errs = append(errs, e.unmount())
	c := config.Config{ExecRoot: e.path("exec")}
	errs = append(errs, host.RemoveCgroup(c.ContainerCgroup()))
	if e.cmd != nil {
		errs = append(errs, nft.New(c.Instance()).Remove())
	}
	return errors.Join(append(errs, os.RemoveAll(e.dir))...)
}

func (e *engine) removeContainers() error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	list, err := e.client(ctx, nil, "ps", "--all", "--quiet", "--no-trunc")
	if ids := strings.Fields(list); err == nil && len(ids) > 0 {
		_, err = e.client(ctx, nil, append([]string{"rm", "--force"}, ids...)...)
	}
	return err
}

// unmount takes away what an engine that did not end in good order has left.
func (e *engine) unmount() error {
	mounts, err := mountinfo.GetMounts(mountinfo.PrefixFilter(e.dir))
	for i := len(mounts) - 1; i >= 0; i-- {
		err = errors.Join(err, unix.Unmount(mounts[i].Mountpoint, unix.MNT_DETACH))
	}
	return err
}
