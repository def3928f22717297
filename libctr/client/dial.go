package client

import (
	"context"
	"net"

	"gantry/api/unixsocket"
)

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
