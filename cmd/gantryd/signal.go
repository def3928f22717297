package main

import (
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"gantry/cmd/gantryd/logger"
	"gantry/cmd/gantryd/stacks"
	"gantry/daemon/config"
)

// listenEarly catches, before anything is read or made, what would otherwise end a
// process that comes up: it is handled when that is up.
func listenEarly() chan os.Signal {
	in := make(chan os.Signal, 16)
	signal.Notify(in, syscall.SIGHUP, syscall.SIGUSR1)
	return in
}

// listenForEnd catches also what tells the process to end. Until then that ends it at
// once: whatever is on its way may take long, and the next start tidies up.
func listenForEnd(in chan os.Signal) { signal.Notify(in, syscall.SIGTERM, syscall.SIGINT) }

// signals handles what the process is told until it is told to end; it returns then.
// A third SIGTERM or SIGINT ends the process at once, unclean.
func signals(in <-chan os.Signal, r *reloader, apply func(*config.Config, []string) error) {
	for s := range in {
		switch s {
		case syscall.SIGHUP:
			r.reload(apply)
		case syscall.SIGUSR1:
			stacks.Dump(r.current.ExecRoot, r.log)
		default:
			r.log.Info("shutting down", "signal", s.String())
			go impatience(in)
			return
		}
	}
}

func impatience(in <-chan os.Signal) {
	asked := 1
	for s := range in {
		if s != syscall.SIGTERM && s != syscall.SIGINT {
			continue
		}
		if asked++; asked == 3 {
			os.Exit(128 + int(s.(syscall.Signal)))
		}
	}
}

// reloader reads the configuration again on SIGHUP. Only the goroutine of signals uses it.
type reloader struct {
	args    []string
	level   *slog.LevelVar
	current *config.Config
	log     *slog.Logger
}

func (r *reloader) reload(apply func(*config.Config, []string) error) {
	next, changed, ignored, err := r.current.Reload(r.args)
	if err != nil {
		r.log.Error("reload: the configuration stays as it is", "err", err)
		return
	}
	if err := apply(next, changed); err != nil {
		r.log.Error("reload: the configuration stays as it is", "err", err)
		return
	}
	for _, key := range ignored {
		r.log.Warn("reload: this option needs a restart", "option", key)
	}
	r.current = next
	r.level.Set(logger.Level(next.Level()))
	r.log.Info("reloaded", "changed", changed)
}
