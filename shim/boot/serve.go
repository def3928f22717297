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

	"gantry/api/failpoint"
	"gantry/api/selfexe"
	"gantry/shim/event"
	"gantry/shim/process"
	"gantry/shim/reaper"
	"gantry/shim/sandbox"
	"gantry/shim/service"
)

// How long the parts may take to finish after Shutdown, one after the other.
const (
	answersTimeout = 2 * time.Second  // RPCs that have begun
	readersTimeout = 10 * time.Second // stream clients that are behind
	eventsTimeout  = 5 * time.Second  // events not yet taken
)

// serve is the shim proper; it returns after Shutdown. Its working directory is the
// bundle, its socket listens, so that clients may connect before it is executed, and
// TTRPC_ADDRESS is where its events go. Whoever executes it, start or an engine:
//
//   - makes the socket, for a container that shares no shim (shimwire.Group), and
//     closes its own descriptor of it, lest a dead shim's clients wait for ever;
//   - removes the socket of a shim that dies before the container is created; later
//     delete does so;
//   - gives the shim a parent that does not mind its death, /dev/null as its streams,
//     and no other descriptor;
//   - executes a file that can't be written (see selfexe), or else serve executes
//     itself anew from one. The first argument is the binary's name: see named.
func (a args) serve() error {
	if err := selfexe.Ensure(); err != nil { // does nothing, as a rule
		return err
	}
	l, err := inherited(a.listenFD)
	if err != nil {
		return err
	}
	unix.Setsid() //nolint:errcheck // whoever executed us may have done it
	failpoint.Hit("shim/boot.serve.begun")
	logrus.SetOutput(io.Discard) // the ttrpc library's
	log := newLogger(a.debug).With("shim", a.id)
	before := shieldFromOOM(log)
	if err := ownCores(); err != nil {
		return err
	}
	if err := reaper.Subreaper(); err != nil {
		return err
	}
	reap := reaper.New()
	defer reap.Close()
	events := a.publisher(reap, log)

	shutdown := make(chan struct{})
	svc := service.New(service.Config{
		Namespace: a.namespace, Reaper: reap, Events: events, Log: log,
		Shutdown: func() { close(shutdown) }, OneTask: a.oneTask,
		Runtime: a.runtimes(before),
	})
	clients := newClients(ttrpc.UnixSocketRequireSameUser())
	srv, err := ttrpc.NewServer(ttrpc.WithServerHandshaker(clients))
	if err != nil {
		return err
	}
	svc.Register(srv)
	if !a.oneTask {
		sandbox.New(svc).Register(srv)
	}
	failpoint.Hit("shim/boot.serve.ready")
	ignoreSignals(svc.Quit)
	restLater()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(context.Background(), l) }()
	select {
	case err = <-served:
		removeSocket(a.socket)
	case <-shutdown:
		// At once, and not again: by the time the readers have gone, the container may
		// have been started anew, with another shim at the same address.
		removeSocket(a.socket)
		failpoint.Hit("shim/boot.serve.socket-removed")
		if a.oneTask { // the engine leaves when it has the answer
			within(answersTimeout, clients.wait)
		}
		within(answersTimeout, func(ctx context.Context) { srv.Shutdown(ctx) }) //nolint:errcheck // ended anyway
	}
	within(readersTimeout, svc.Drain)
	failpoint.Hit("shim/boot.serve.drained")
	within(eventsTimeout, events.Close)
	failpoint.Hit("shim/boot.serve.ended")
	if errors.Is(err, ttrpc.ErrServerClosed) {
		err = nil
	}
	return err
}

// publisher sends events to the engine: to its ttrpc socket, or by its program where it has
// none.
func (a args) publisher(reap *reaper.Reaper, log *slog.Logger) *event.Publisher {
	address := os.Getenv("TTRPC_ADDRESS")
	if address == "" && a.publish != "" {
		return event.NewBinaryPublisher(event.Binary{Path: a.publish, Address: a.address, Run: reap.Guard}, a.namespace, log)
	}
	return event.NewPublisher(address, a.namespace, log)
}

// runtimes makes the runtime that a task's options ask for. oomScoreAdj is what containers
// have that ask for none, nil for the shim's own.
func (a args) runtimes(oomScoreAdj *int) func(options *anypb.Any, bundle, socket string) (process.Runtime, error) {
	return func(options *anypb.Any, bundle, socket string) (process.Runtime, error) {
		c, err := choose(options, a.namespace, bundle)
		if err != nil {
			return nil, err
		}
		c.Socket, c.Address = socket, a.socket
		if c.ShimCgroup != "" {
			if err := enterCgroup(c.ShimCgroup, os.Getpid()); err != nil {
				return nil, err
			}
		}
		failpoint.Hit("shim/boot.serve.chosen")
		return c.runtime(oomScoreAdj), c.save(bundle)
	}
}

// inherited is the listening socket at a descriptor, which it closes.
func inherited(fd int) (net.Listener, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("no socket at descriptor %d: %w", fd, err)
	}
	return l, nil
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
