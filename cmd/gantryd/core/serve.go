package core

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	sdnotify "github.com/coreos/go-systemd/v22/daemon"

	"gantry/api/version"
	"gantry/cmd/gantryd/logger"
	"gantry/cmd/gantryd/memory"
	"gantry/cmd/gantryd/stacks"
	"gantry/cmd/gantryd/tracing"
	"gantry/libctr/server"
)

const (
	stopTimeout  = 20 * time.Second // bounds the orderly end, of which shims and what they run are no part
	flushTimeout = 5 * time.Second  // of what is traced
	trimInterval = time.Minute      // between two returns of memory, the first of which comes after the start
)

// serve runs a core until a signal ends it. Signals are caught before anything is read
// or made; one that asks for the end while the core comes up is heeded when it is up.
func serve(f flags) error {
	in := make(chan os.Signal, 64)
	// SIGPIPE is caught and dropped, not ignored: what is executed would inherit that.
	signal.Notify(in, syscall.SIGTERM, syscall.SIGINT, syscall.SIGUSR1, syscall.SIGPIPE)
	cfg, err := f.config(context.Background(), slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		return err
	}
	if os.Geteuid() != 0 {
		return errors.New("the core needs to be started as root")
	}
	level := new(slog.LevelVar)
	level.Set(logger.Level(cfg.Debug.Level))
	cfg.Log = logger.New(os.Stderr, cfg.Debug.Format, level)
	slog.SetDefault(cfg.Log)
	if err := prepare(cfg); err != nil {
		return err
	}
	if cfg.Subreaper {
		signal.Notify(in, syscall.SIGCHLD)
	}
	tp, flush, err := tracing.New(context.Background())
	if err != nil {
		return err
	}
	cfg.Tracing = tp
	err = newLife(cfg, in).run()
	ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
	defer cancel()
	return errors.Join(err, flush(ctx))
}

// life is the course of the process. Only run's goroutine uses it.
type life struct {
	cfg    server.Config
	log    *slog.Logger
	in     <-chan os.Signal
	up     chan started // the outcome of the start
	ended  chan error   // that of the end
	server *server.Server
	asked  int // how often the end was asked for
	cancel context.CancelFunc
}

type started struct {
	server *server.Server
	err    error
}

func newLife(cfg server.Config, in <-chan os.Signal) *life {
	cfg.Answered = memory.NewQuiet(memory.Rest, func() { memory.Trim(cfg.Log) }).Stir
	return &life{cfg: cfg, log: cfg.Log, in: in, up: make(chan started, 1), ended: make(chan error, 1)}
}

// run stays on the process's first thread and starts no process itself: see reap.
func (l *life) run() error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l.cancel = cancel
	begin := time.Now()
	trim := time.NewTimer(trimInterval)
	defer trim.Stop()
	l.log.Info("starting core", "version", version.Version, "revision", version.Commit)
	go func() { l.up <- start(ctx, l.cfg) }()
	for {
		select {
		case s := <-l.in:
			l.signal(s)
		case r := <-l.up:
			if l.server = r.server; r.err != nil {
				return r.err
			}
			if l.asked > 0 {
				l.stop()
				continue
			}
			l.notify(sdnotify.SdNotifyReady)
			l.log.Info("core is ready", "after", time.Since(begin))
			trim.Reset(memory.Rest)
		case <-trim.C:
			memory.Trim(l.log)
			trim.Reset(trimInterval)
		case err := <-l.ended:
			return err
		}
	}
}

func start(ctx context.Context, cfg server.Config) started {
	s, err := server.New(ctx, cfg)
	if err != nil {
		return started{err: err}
	}
	if err := s.Start(); err != nil {
		return started{err: errors.Join(err, s.Stop(context.WithoutCancel(ctx)))}
	}
	return started{server: s}
}

func (l *life) signal(s os.Signal) {
	switch s {
	case syscall.SIGPIPE:
	case syscall.SIGCHLD:
		reap(l.log)
	case syscall.SIGUSR1:
		stacks.Dump(l.cfg.State, l.log)
	default:
		l.end(s)
	}
}

// end begins the end. A third signal ends the process at once, unclean.
func (l *life) end(s os.Signal) {
	switch l.asked++; {
	case l.asked >= 3:
		os.Exit(128 + int(s.(syscall.Signal)))
	case l.asked == 1:
		l.log.Info("shutting down", "signal", s.String())
		l.notify(sdnotify.SdNotifyStopping)
		l.cancel()
		if l.server != nil {
			l.stop()
		}
	}
}

func (l *life) stop() {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
		defer cancel()
		l.ended <- l.server.Stop(ctx)
	}()
}

func (l *life) notify(state string) {
	if _, err := sdnotify.SdNotify(false, state); err != nil {
		l.log.Warn("notify systemd", "err", err)
	}
}
