package boot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/ttrpc"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/runtime/selfexe"
	"gantry/shim/event"
	"gantry/shim/process"
	"gantry/shim/reaper"
	"gantry/shim/service"
)

const (
	// listenFD is the socket that start has made; exeFD the program, not needed any more.
	listenFD = 3
	exeFD    = 4
)

// How long the parts may take to finish after Shutdown, one after the other.
const (
	answersTimeout = 2 * time.Second  // RPCs that have begun
	readersTimeout = 10 * time.Second // stream clients that are behind
	eventsTimeout  = 5 * time.Second  // events not yet taken
)

// serve is the shim proper; it returns after Shutdown.
func (a args) serve() error {
	if err := selfexe.Ensure(); err != nil { // does nothing, as a rule
		return err
	}
	unix.Close(exeFD)
	socket := os.NewFile(listenFD, "socket")
	l, err := net.FileListener(socket)
	socket.Close()
	if err != nil {
		return fmt.Errorf("no socket at descriptor %d: %w", listenFD, err)
	}
	logrus.SetOutput(io.Discard) // the ttrpc library's
	log := newLogger(a.debug).With("shim", a.id)
	before := shieldFromOOM(log)
	if err := reaper.Subreaper(); err != nil {
		return err
	}
	reap := reaper.New()
	defer reap.Close()
	events := event.NewPublisher(os.Getenv("TTRPC_ADDRESS"), a.namespace, log)

	shutdown := make(chan struct{})
	svc := service.New(service.Config{
		Namespace: a.namespace, Reaper: reap, Events: events, Log: log,
		Shutdown: func() { close(shutdown) },
		Runtime: func(options *anypb.Any, bundle, socket string) (process.Runtime, error) {
			c, err := choose(options, a.namespace, bundle)
			if err != nil {
				return nil, err
			}
			c.Socket = socket
			return c.runtime(before), c.save(bundle)
		},
	})
	srv, err := ttrpc.NewServer(ttrpc.WithServerHandshaker(ttrpc.UnixSocketRequireSameUser()))
	if err != nil {
		return err
	}
	svc.Register(srv)
	ignoreSignals(svc.Quit)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	select {
	case err = <-served:
		removeSocket(a.socket)
	case <-shutdown:
		// At once, and not again: by the time the readers have gone, the container may
		// have been started anew, with another shim at the same address.
		removeSocket(a.socket)
		within(answersTimeout, func(ctx context.Context) { srv.Shutdown(ctx) }) //nolint:errcheck // ended anyway
	}
	within(readersTimeout, svc.Drain)
	within(eventsTimeout, events.Close)
	if errors.Is(err, ttrpc.ErrServerClosed) {
		err = nil
	}
	return err
}

func removeSocket(address string) { os.Remove(strings.TrimPrefix(address, "unix://")) }

func within(d time.Duration, f func(context.Context)) {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	f(ctx)
}

// ignoreSignals keeps the shim from ending with its engine's terminal or
// service. A TERM ends it when it has nothing to do.
func ignoreSignals(quit func()) {
	// Caught and dropped: what is ignored stays so in all that is executed, containers
	// of an OCI runtime's command line included.
	signal.Notify(make(chan os.Signal, 1), unix.SIGINT, unix.SIGHUP, unix.SIGPIPE)
	term := make(chan os.Signal, 1)
	signal.Notify(term, unix.SIGTERM)
	go func() { // ends with the process
		for range term {
			quit()
		}
	}()
}

// oomScore is as low as it gets short of never.
const oomScore = -999

// shieldFromOOM keeps the kernel from choosing the shim when memory is out, as
// far as it lets us, and returns the score from before.
func shieldFromOOM(log *slog.Logger) *int {
	const path = "/proc/self/oom_score_adj"
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	before, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil {
		return nil
	}
	for score := oomScore; score < before; score += 50 {
		err = os.WriteFile(path, []byte(strconv.Itoa(score)), 0)
		if !errors.Is(err, syscall.EACCES) {
			break
		}
	}
	if err != nil {
		log.Debug("lower oom score", "err", err)
	}
	return &before
}
