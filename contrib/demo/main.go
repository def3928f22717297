// Command demo runs one container on an engine of its own, on private directories,
// and prints every hop of its start. It leaves nothing behind.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
)

func main() {
	bin := flag.String("bin", "bin", "directory of the built programs")
	docker := flag.String("docker", "docker", "docker CLI")
	flag.Parse()
	if err := run(*bin, *docker); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

const name = "gantry-demo:latest"

type demo struct {
	dir, docker string
	engine      *exec.Cmd
}

func run(bin, docker string) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("the demo runs a real container and needs root")
	}
	dir, err := os.MkdirTemp("/tmp", "gantry-demo-")
	if err != nil {
		return err
	}
	d := &demo{dir: dir, docker: docker}
	defer func() {
		if cerr := d.close(); err == nil {
			err = cerr
		}
	}()
	if err := d.launch(bin); err != nil {
		return err
	}
	fmt.Printf("An engine runs on %s (pid %d).\n\n", dir, d.engine.Process.Pid)
	if err := d.load(); err != nil {
		return err
	}
	fmt.Println("$ docker run --rm " + name)
	out, err := d.client(nil, "run", "--rm", name)
	if err != nil {
		return err
	}
	fmt.Println(out)
	return d.explain()
}

func (d *demo) bridge() string { return fmt.Sprintf("gtdemo%d", os.Getpid()%100000) }

func (d *demo) launch(bin string) error {
	log, err := os.Create(filepath.Join(d.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	at := func(name string) string { return filepath.Join(d.dir, name) }
	if err := os.WriteFile(at("daemon.json"), []byte("{}"), 0o600); err != nil {
		return err
	}
	d.engine = exec.Command(filepath.Join(bin, "gantryd"), "--data-root", at("data"), "--exec-root", at("exec"), "--config-file", at("daemon.json"),
		"-H", "unix://"+at("docker.sock"), "--pidfile", at("pid"), "--bridge", d.bridge())
	d.engine.Env = append(os.Environ(), "GANTRY_TRACE_FILE="+at("trace"))
	d.engine.Stdout, d.engine.Stderr = log, log
	if err := d.engine.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if c, err := net.Dial("unix", at("docker.sock")); err == nil {
			c.Close()
			if _, err := d.client(nil, "version"); err == nil {
				return nil
			}
		}
	}
	text, _ := os.ReadFile(at("log"))
	return fmt.Errorf("the engine does not answer:\n%s", text)
}

func (d *demo) client(stdin []byte, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.docker, args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+filepath.Join(d.dir, "docker.sock"), "DOCKER_CONFIG="+d.dir, "DOCKER_CONTEXT=")
	cmd.Stdin = bytes.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("docker %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimRight(string(out), "\n") + "\n", nil
}

func (d *demo) load() error {
	program := filepath.Join(d.dir, "hello")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "./contrib/demo/hello")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build the demo image's program: %w\n%s", err, out)
	}
	raw, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	tar, err := image(name, raw)
	if err != nil {
		return err
	}
	fmt.Println("$ docker load < gantry-demo.tar")
	out, err := d.client(tar, "load")
	fmt.Println(out)
	return err
}

// explain ends the engine, so that every span is written, and prints the start.
func (d *demo) explain() error {
	if err := d.stop(); err != nil {
		return err
	}
	all, err := readSpans(filepath.Join(d.dir, "trace"))
	if err != nil {
		return err
	}
	for _, s := range all {
		if strings.HasPrefix(s.Name, "POST /containers/") && strings.HasSuffix(s.Name, "/start") {
			fmt.Println("What POST /containers/{id}/start was made of:")
			fmt.Println()
			tell(os.Stdout, all, s)
			return nil
		}
	}
	return errors.New("no span of the container's start was written")
}

func (d *demo) stop() error {
	if d.engine == nil || d.engine.ProcessState != nil {
		return nil
	}
	d.engine.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(20*time.Second, func() { d.engine.Process.Kill() })
	defer kill.Stop()
	return d.engine.Wait()
}

func (d *demo) close() error {
	err := d.stop()
	if l, lerr := netlink.LinkByName(d.bridge()); lerr == nil {
		err = errors.Join(err, netlink.LinkDel(l))
	}
	return errors.Join(err, os.RemoveAll(d.dir))
}
