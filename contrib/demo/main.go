// Command demo runs one container on an engine of its own, on private directories,
// and prints every hop of its start: which process, which call, how long. It leaves
// nothing behind, also when it fails or is interrupted.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	o := options{}
	flag.StringVar(&o.bin, "bin", "bin", "directory of the built programs")
	flag.StringVar(&o.docker, "docker", "docker", "docker CLI")
	flag.StringVar(&o.hello, "hello", "", "program of the demo's image")
	flag.BoolVar(&o.all, "all", false, "show every system call")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

type options struct {
	bin, docker, hello string
	all                bool
}

const name = "gantry-demo:latest"

func run(ctx context.Context, o options) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("the demo runs a real container and needs root")
	}
	program, err := os.ReadFile(o.hello)
	if err != nil {
		return fmt.Errorf("program of the demo's image: %w", err)
	}
	tar, err := image(name, program)
	if err != nil {
		return err
	}
	e, err := newEngine(o.docker)
	if err != nil {
		return err
	}
	defer func() {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		if cerr := e.close(); cerr != nil {
			err = errors.Join(err, fmt.Errorf("clean up: %w", cerr))
		}
	}()
	if err := e.launch(ctx, o.bin); err != nil {
		return err
	}
	if _, err := e.client(ctx, tar, "load"); err != nil {
		return err
	}
	// The first run reads everything from disk; it is the second that is shown.
	if _, err := e.client(ctx, nil, "run", "--rm", name); err != nil {
		return err
	}
	begun := time.Now()
	out, err := e.client(ctx, nil, "run", "--rm", "--publish", "127.0.0.1::80", name)
	if err != nil {
		return err
	}
	took := time.Since(begun)
	fmt.Printf("$ docker run --rm --publish 127.0.0.1::80 %s\n%s\n", name, out)
	if err := e.stop(); err != nil { // now every span is written
		return err
	}
	all, err := readSpans(e.path("trace"))
	if err != nil {
		return err
	}
	return explain(all, begun, took, e.pid(), o.all, e.short)
}

// explain prints the requests of the run that began then, and its start as a tree.
func explain(all []span, begun time.Time, took time.Duration, pid int, every bool, names func(string) string) error {
	requests := requestsSince(all, begun)
	var start *node
	for _, s := range requests {
		if strings.HasPrefix(s.Name, "POST /containers/") && strings.HasSuffix(s.Name, "/start") {
			start = tree(all, s)
		}
	}
	if start == nil {
		return errors.New("no span of the container's start was written")
	}
	pids := map[string]string{"gantryd": fmt.Sprint(pid)}
	start.pids(pids)
	fmt.Println("Who takes part:")
	for _, p := range []struct{ name, what string }{
		{"gantryd", "the engine: HTTP API, Docker's semantics, and behind a gRPC socket the containerd-compatible core"},
		{"shim", "containerd-shim-gantry-v2, the container's parent: keeps its streams, log, ports and exit when gantryd dies"},
		{"init", "first a clone of the shim that runs a list of system calls, then, by execve, the container's command"},
	} {
		fmt.Printf("  %-8s pid %-8s %s\n", p.name, pids[p.name], p.what)
	}
	fmt.Printf("\nWhat the docker CLI asked gantryd for, in %s:\n%9s %9s  request\n", ms(took), "at", "took")
	for _, s := range requests {
		fmt.Printf("%9s %9s  %s\n", ms(s.StartTime.Sub(begun)), ms(s.took()), s.Name)
	}
	fmt.Printf("\n%s, hop by hop:\n", start.Name)
	teller{w: os.Stdout, all: every, names: names}.tell(start)
	fmt.Printf("\ntotal %s, %d hops, %d of them calls of the init's program up to its execve\n", ms(start.took()), start.count(), start.calls())
	return nil
}

// temp is where the engine's directories are made; its socket paths must be short.
func temp() (string, error) { return os.MkdirTemp("/tmp", "gantry-demo-") }

// path is a file of the engine's.
func (e *engine) path(name string) string { return filepath.Join(e.dir, name) }
