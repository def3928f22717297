package client

import (
	"context"
	"errors"
	"net"

	"golang.org/x/sys/unix"

	"gantry/api/unixsocket"
)

// errAbsent says that nobody listens. The kernel's words would have clients of the engine
// take a core that is away for a command that is not in an image.
var errAbsent = errors.New("no core listens there")

func plainly(err error) error {
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return errAbsent
	}
	return err
}

// dialUnix connects to a unix socket whose path may be longer than a socket address.
func dialUnix(ctx context.Context, path string) (net.Conn, error) {
	name, release, err := unixsocket.Near(path)
	if err != nil {
		return nil, err
	}
	defer release()
	var d net.Dialer
	return d.DialContext(ctx, "unix", name)
}
