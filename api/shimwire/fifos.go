package shimwire

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
)

// Fifos asks a keeper, which stands between the engine and a shim that knows no stream
// socket, to hold the ends of one process's streams. The fifos exist; the keeper opens
// both ends of each, so that neither a dead engine nor a shim that comes later finds
// one closed.
type Fifos struct {
	// Proc is the exec id; "" is the init.
	Proc string `json:"proc,omitempty"`
	// Output is a LogURI or a StreamURI: where the output goes. Its Socket is unused.
	Output string `json:"output"`
	// The fifos' absolute paths; "" is a stream that the process does not have.
	Stdin  string `json:"stdin,omitempty"`
	Stdout string `json:"stdout,omitempty"`
	Stderr string `json:"stderr,omitempty"`
	// Terminal: stdin leads to a terminal, which has no end that could be sent.
	Terminal bool `json:"terminal,omitempty"`
}

// wireEnd is the body of an End request.
type wireEnd struct {
	Proc string `json:"proc,omitempty"`
}

// OpenFifos has the keeper at socket hold the ends of a process's streams. One that
// holds them already says so by success.
func OpenFifos(ctx context.Context, socket string, f Fifos) error {
	return askJSON(ctx, socket, kindFifos, f)
}

// EndFifos tells the keeper that a process is over and that its shim has passed on all
// it said: what the fifos hold is taken, then the output ends. With the init's, proc "",
// everything ends, the keeper too, when its clients have the rest.
func EndFifos(ctx context.Context, socket, proc string) error {
	return askJSON(ctx, socket, kindEndFifos, wireEnd{Proc: proc})
}

func askJSON(ctx context.Context, socket string, kind Kind, v any) error {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return ask(ctx, socket, func(conn *net.UnixConn) error {
		_, err := conn.Write(append(appendHeader(nil, kind, 0, len(body)), body...))
		return err
	})
}

func decodeJSON[T any](body []byte) (*T, error) {
	v := new(T)
	if err := json.Unmarshal(body, v); err != nil {
		return nil, fmt.Errorf("malformed request: %w", err)
	}
	return v, nil
}
