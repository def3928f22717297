// Package keeper stands between an engine and a shim that is not this project's. Such a
// shim knows fifos only. A keeper is a process of its own for one container: it holds
// the other ends of the fifos, writes the container's log, serves the stream socket
// (api/shimwire) as our shim does, and holds the sockets of published ports. So the
// death of the engine costs the container nothing here either.
//
// The engine makes and removes the fifos and names them; see shimwire.Fifos. A keeper
// that is started anew on the same fifos goes on with what waits in them.
package keeper

import (
	"context"
	"net"
	"sync"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
	"gantry/api/shimwire"
	"gantry/shim/output"
	"gantry/shim/port"
	"gantry/shim/stdio"
	"gantry/shim/stream"
)

// finishTimeout bounds the carrying of what the fifos still hold to its place, which
// may be full.
const finishTimeout = stdio.Grace

// Keeper is one container's. Safe for concurrent use.
type Keeper struct {
	owner  stdio.Owner
	ports  *port.Set
	server *stream.Server
	ready  chan struct{} // closed when server is set
	done   chan struct{} // closed when it is all over

	mu    sync.Mutex
	procs map[string]*stdio.IO // by exec id, "" being the init; guarded by mu
	over  bool                 // guarded by mu
}

// Serve begins to serve on the socket at path, which listens already.
func Serve(path string, l *net.UnixListener, owner stdio.Owner) *Keeper {
	k := &Keeper{
		owner: owner, ports: port.New(owner.Log), procs: map[string]*stdio.IO{},
		ready: make(chan struct{}), done: make(chan struct{}),
	}
	k.server = stream.Serve(path, l, k, owner.Log)
	close(k.ready)
	return k
}

// Done is closed when the init's streams have ended: no more clients are taken, and the
// socket has been removed.
func (k *Keeper) Done() <-chan struct{} { return k.done }

// Drain waits until the clients have got the rest, and cuts them off with ctx.
func (k *Keeper) Drain(ctx context.Context) { k.server.Drain(ctx) }

// Quit ends a keeper that has nothing to keep.
func (k *Keeper) Quit() {
	k.mu.Lock()
	idle := len(k.procs) == 0
	k.mu.Unlock()
	if idle {
		k.end()
	}
}

// Streams implements stream.Host.
func (k *Keeper) Streams(proc string) (output.Output, stream.Stdin, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	io := k.procs[proc]
	if io == nil {
		return nil, nil, errdefs.NotFound("no streams of process %q are kept", proc)
	}
	if in := io.Stdin(); in != nil {
		return io.Output(), in, nil
	}
	return io.Output(), nil, nil
}

// HoldPorts implements stream.Host.
func (k *Keeper) HoldPorts(ports []shimwire.Port) error { return k.ports.Hold(ports) }

// OpenFifos implements stream.Keeper.
func (k *Keeper) OpenFifos(f shimwire.Fifos) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.over:
		return errdefs.Unavailable("the container's streams have ended")
	case k.procs[f.Proc] != nil:
		return nil
	}
	io, err := stdio.Keep(f, k.owner)
	if err != nil {
		return err
	}
	k.procs[f.Proc] = io
	failpoint.Hit("shim/keeper.open.opened")
	return nil
}

// EndFifos implements stream.Keeper. The end of what is not there is no error.
func (k *Keeper) EndFifos(proc string) error {
	if proc == "" {
		k.end()
		return nil
	}
	k.mu.Lock()
	io := k.procs[proc]
	delete(k.procs, proc)
	k.mu.Unlock()
	if io != nil {
		io.Finish(finishTimeout)
	}
	return nil
}

// end finishes all streams and takes no more clients, once.
func (k *Keeper) end() {
	k.mu.Lock()
	over := k.over
	k.over = true
	procs := k.procs
	k.procs = map[string]*stdio.IO{}
	k.mu.Unlock()
	if over {
		<-k.done
		return
	}
	finish(procs)
	failpoint.Hit("shim/keeper.end.finished")
	k.ports.Release()
	<-k.ready
	if err := k.server.Close(); err != nil {
		k.owner.Log.Warn("remove stream socket", "err", err)
	}
	failpoint.Hit("shim/keeper.end.closed")
	close(k.done)
}

func finish(procs map[string]*stdio.IO) {
	var all sync.WaitGroup
	for _, io := range procs {
		all.Go(func() { io.Finish(finishTimeout) })
	}
	all.Wait()
}
