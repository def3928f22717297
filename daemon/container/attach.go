package container

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"

	apicontainer "gantry/api/container"
	"gantry/api/errdefs"
	"gantry/api/logfile"
	"gantry/api/shimwire"
	apistream "gantry/api/stream"
	"gantry/daemon/logger"
	"gantry/daemon/stream"
)

// maxParked bounds the clients that wait for one container to start.
const maxParked = 128

// parked is a client that waits for the start.
type parked struct {
	hello   shimwire.Hello
	heir    *heir
	process chan stream.Process // yields one connection, or nil when there will be none; has room for it
	left    bool                // guarded by the entry's mu; nobody waits any more
}

// Attach joins a client with the container's init. A client of a container that does
// not run waits for its start and is connected before the first byte can come. The
// loss of a client ends its attachment only.
func (s *Service) Attach(ctx context.Context, ref string, o apicontainer.AttachOptions) error {
	keys, err := stream.ParseKeys(o.DetachKeys)
	if err != nil {
		return errdefs.InvalidArgument("Invalid detach keys (%s) provided", o.DetachKeys)
	}
	e, err := s.find(ref)
	if err != nil {
		return err
	}
	c := e.snapshot()
	switch {
	case c.Status == Paused:
		return errdefs.Conflict("container %s is paused, unpause the container before attach", ref)
	case c.Status == Restarting:
		return errdefs.Conflict("container %s is restarting, wait until the container is running", ref)
	}
	ctx, stop := s.within(ctx)
	defer stop()
	a := &attachment{s: s, e: e, o: o, keys: keys, tty: c.Config.Tty}
	return a.run(ctx, c)
}

// attachment is one client of one container.
type attachment struct {
	s    *Service
	e    *entry
	o    apicontainer.AttachOptions
	keys []byte
	tty  bool
	from *logfile.Position // where the replay ended
	heir heir
}

func (a *attachment) run(ctx context.Context, c *Snapshot) error {
	wait, err := a.e.park(a.hello(c), &a.heir)
	if err != nil {
		return err
	}
	defer a.e.disown(&a.heir)
	defer a.e.unpark(wait)
	client, err := a.o.Open(!a.tty)
	if err != nil {
		return err
	}
	closeOnce := sync.OnceValue(client.Close)
	client.Close = closeOnce
	defer closeOnce() //nolint:errcheck // the client's own affair
	if a.o.Logs {
		if err := a.replay(ctx, c, client); err != nil {
			fmt.Fprintln(client.Stdout, "Error attaching:", err)
			return nil
		}
	}
	a.s.publish(a.e.snapshot(), events.ActionAttach, nil)
	if !a.o.Stream {
		return nil
	}
	if !a.stdin(c) && !a.o.Stdout && !a.o.Stderr {
		return a.linger(ctx, c)
	}
	p, err := a.connect(ctx, c, wait)
	if err != nil {
		fmt.Fprintln(client.Stdout, "Error attaching:", err)
		return nil
	}
	if p == nil {
		return nil // the start failed, or the container has gone
	}
	a.join(ctx, c, p, client)
	return nil
}

func (a *attachment) hello(c *Snapshot) shimwire.Hello {
	return shimwire.Hello{
		Stdin: a.stdin(c), Stdout: a.o.Stdout, Stderr: a.o.Stderr && !a.tty,
	}
}

func (a *attachment) stdin(c *Snapshot) bool { return a.o.Stdin && c.Config.OpenStdin }

// linger keeps a client that asked for no stream: where stdin closes with its first
// client until the container is down, else not at all, as dockerd does.
func (a *attachment) linger(ctx context.Context, c *Snapshot) error {
	if c.Config.StdinOnce && !a.tty {
		a.e.down(ctx)
	}
	return nil
}

func (a *attachment) replay(ctx context.Context, c *Snapshot, client *apistream.Client) error {
	src, err := logSource(c)
	if err != nil {
		return err
	}
	out, errs := client.Stdout, client.Stderr
	if !a.o.Stdout {
		out = nil
	}
	if !a.o.Stderr {
		errs = nil
	}
	// Also where the client does not read. Later that is Copy's affair, which knows whose
	// input ends.
	stop := context.AfterFunc(ctx, func() { client.Close() })
	defer stop()
	pos, err := logger.Replay(ctx, src, out, errs)
	a.from = &pos
	return err
}

// connect dials a running container, from where the replay ended, or waits for the
// start of another.
func (a *attachment) connect(ctx context.Context, c *Snapshot, wait *parked) (stream.Process, error) {
	if wait == nil {
		if p, ended := a.e.remains(&a.heir, a.from); ended {
			return p, nil
		}
		h := a.hello(c)
		h.From = a.from
		p, err := a.s.dial(ctx, a.e, h, &a.heir)
		if errdefs.IsNotFound(err) || errdefs.Class(err) == errdefs.ErrUnavailable {
			return a.ended(), nil
		}
		return p, err
	}
	select {
	case p := <-wait.process:
		return p, nil
	case <-ctx.Done():
		return nil, nil
	}
}

// ended is what a client that could not connect has still to get of the run: nil where
// there is nothing. Whoever has closed the stream socket has written all of the log.
func (a *attachment) ended() stream.Process {
	src, logged := logOf(a.e.snapshot())
	if a.from == nil || !logged {
		return nil
	}
	rest, err := logger.OpenRest(src, *a.from)
	if p, came := a.e.remains(&a.heir, a.from); came { // and these may be another run's
		closeRest(rest)
		return p
	}
	if err != nil {
		return nil
	}
	return stream.Remains(rest, *a.from)
}

func (a *attachment) join(ctx context.Context, c *Snapshot, p stream.Process, client *apistream.Client) {
	r := stream.Copy(ctx, p, client, stream.Options{
		Stdin: a.stdin(c), Stdout: a.o.Stdout, Stderr: a.o.Stderr,
		TTY: a.tty, Keys: a.keys, CloseStdin: c.Config.StdinOnce, Reopens: true,
	})
	if r.StdinOpen {
		if err := a.s.closeStdin(context.WithoutCancel(ctx), a.e.id); err != nil {
			a.s.log.WarnContext(ctx, "close stdin", "container", a.e.id, "err", err)
		}
	}
	if r.How == stream.Detached {
		a.s.publish(a.e.snapshot(), events.ActionDetach, nil)
	}
}

// park makes a waiting place, nil when the container runs already.
func (e *entry) park(hello shimwire.Hello, h *heir) (*parked, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.run != nil || e.view.Load().Status.HasTask() {
		e.join(h)
		return nil, nil
	}
	if e.gone {
		return nil, errNotFound(e.id)
	}
	if len(e.parked) >= maxParked {
		return nil, errdefs.ResourceExhausted("too many clients wait for container %s to start", e.id)
	}
	p := &parked{hello: hello, heir: h, process: make(chan stream.Process, 1)}
	e.parked[p] = struct{}{}
	return p, nil
}

// unpark gives the place up; a connection that came too late is closed.
func (e *entry) unpark(p *parked) {
	if p == nil {
		return
	}
	e.locked(func() { delete(e.parked, p); p.left = true })
	select {
	case late := <-p.process:
		if late != nil {
			late.Close()
		}
	default:
	}
}

// deliver ends a wait, with nil where there is no connection. One for a client that has
// left meanwhile is closed.
func (e *entry) deliver(p *parked, conn stream.Process) {
	var left bool
	e.locked(func() {
		if left = p.left; !left {
			p.process <- conn
		}
	})
	if left && conn != nil {
		conn.Close()
	}
}

// takeParked empties the waiting places.
func (e *entry) takeParked() []*parked {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []*parked
	for p := range e.parked {
		out = append(out, p)
		delete(e.parked, p)
		e.join(p.heir)
	}
	return out
}

// dropParked tells those who wait that there will be no start.
func (e *entry) dropParked() {
	for _, p := range e.takeParked() {
		e.deliver(p, nil)
	}
}

// connectTime bounds the connecting of all who wait.
const connectTime = 10 * time.Second

// connectParked connects those who wait, between the task's creation and its start.
func (s *Service) connectParked(ctx context.Context, e *entry) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	for _, p := range e.takeParked() {
		conn, err := s.dial(ctx, e, p.hello, p.heir)
		if err != nil {
			s.log.WarnContext(ctx, "connect waiting client", "container", e.id, "err", err)
			conn = nil
		}
		e.deliver(p, conn)
	}
}
