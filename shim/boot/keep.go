package boot

import (
	"net"

	"golang.org/x/sys/unix"

	"gantry/api/failpoint"
	"gantry/shim/keeper"
	"gantry/shim/stdio"
)

// keep holds the streams of a container whose shim is not ours; see package keeper. Who
// executes it makes the socket, which listens, and is its parent until it dies.
func (a args) keep() error {
	l, err := inherited(a.listenFD)
	if err != nil {
		return err
	}
	unix.Setsid() //nolint:errcheck // whoever executed us may have done it
	log := newLogger(a.debug).With("keeper", a.id)
	shieldFromOOM(log)
	failpoint.Hit("shim/boot.keep.begun")
	k := keeper.Serve(a.socket, l.(*net.UnixListener), stdio.Owner{Namespace: a.namespace, ID: a.id, Log: log})
	ignoreSignals(k.Quit)
	restLater()
	<-k.Done()
	failpoint.Hit("shim/boot.keep.ended")
	within(readersTimeout, k.Drain)
	return nil
}
