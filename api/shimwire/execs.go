package shimwire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
)

// Exec is an exec that a shim has, started or not, and until it is deleted.
type Exec struct {
	ID       string   `json:"id"`
	Started  bool     `json:"started,omitempty"`
	Pid      int      `json:"pid,omitempty"`
	Args     []string `json:"args"`
	Cwd      string   `json:"cwd,omitempty"`
	Terminal bool     `json:"terminal,omitempty"`
	// Stdin, Stdout and Stderr say which are open.
	Stdin  bool `json:"stdin,omitempty"`
	Stdout bool `json:"stdout,omitempty"`
	Stderr bool `json:"stderr,omitempty"`
}

// ListExecs asks the container's shim for its execs. A shim that cannot tell is
// Unavailable.
func ListExecs(ctx context.Context, socket string) (list []Exec, err error) {
	conn, err := dialUnix(ctx, socket)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	for {
		f, err := exchange(ctx, conn, conn, appendHeader(nil, kindExecs, 0, 0))
		if err != nil {
			return nil, err
		}
		var part wireExecs
		if f.kind != kindExecList {
			return nil, fmt.Errorf("unexpected frame of kind %#x from shim", uint8(f.kind))
		}
		if err := json.Unmarshal(f.body, &part); err != nil {
			return nil, fmt.Errorf("shim sent a malformed list: %w", err)
		}
		list = append(list, part.Execs...)
		if !part.More {
			return list, nil
		}
	}
}

// wireExecs is the body of an ExecList frame.
type wireExecs struct {
	Execs []Exec `json:"execs"`
	More  bool   `json:"more,omitempty"` // ask again
}

// WriteExecs answers a request for execs, in as many frames as need be: after each the
// client asks for the next. What fits no frame is cut off.
func WriteExecs(conn net.Conn, list []Exec) error {
	for {
		frame, rest := appendExecs(list)
		if _, err := conn.Write(frame); err != nil || len(rest) == 0 {
			return err
		}
		list = rest
		f, err := readRaw(conn, nil)
		if err == nil && f.kind != kindExecs {
			err = errors.New("unexpected frame between two lists")
		}
		if err != nil {
			return err
		}
	}
}

// appendExecs makes a frame of the first of list, and returns what is left.
func appendExecs(list []Exec) (frame []byte, rest []Exec) {
	for n := len(list); ; n /= 2 {
		body, _ := json.Marshal(wireExecs{Execs: list[:n], More: n < len(list)}) // plain values always marshal
		if len(body) <= MaxBody {
			return append(appendHeader(nil, kindExecList, 0, len(body)), body...), list[n:]
		}
		if n == 1 {
			list[0].shorten()
			n = 2
		}
	}
}

// longest is what a text may take of a frame, whatever JSON makes of its bytes, so that
// two fit.
const longest = MaxBody / 16

// shorten cuts off what fits no frame. The texts are the list's own.
func (e *Exec) shorten() {
	e.Args = e.Args[:min(1, len(e.Args))]
	for i, a := range e.Args {
		e.Args[i] = a[:min(longest, len(a))]
	}
	e.Cwd = e.Cwd[:min(longest, len(e.Cwd))]
}
