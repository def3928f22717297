package shimwire

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// Port is a bound socket that reserves a published port.
type Port struct {
	// File is the socket. HoldPorts sends a copy; the caller keeps its own and closes it.
	File *os.File
	// Proto is "tcp", "udp" or "sctp".
	Proto string
	// Relay is where what arrives is carried, "ip:port" as the shim can reach it;
	// "" only holds the socket. tcp and udp only.
	Relay string
}

// portsPerFrame keeps a message below the kernel's limit of 253 descriptors.
const portsPerFrame = 128

// HoldPorts gives the container's shim the sockets to hold, in place of what it
// held, and starts the relays. It keeps them until ReleasePorts or the task's end.
func HoldPorts(ctx context.Context, socket string, held []Port) error {
	return ask(ctx, socket, func(conn *net.UnixConn) error { return sendPorts(conn, held) })
}

// ReleasePorts closes the held sockets and ends the relays and their connections.
func ReleasePorts(ctx context.Context, socket string) error {
	return ask(ctx, socket, func(conn *net.UnixConn) error {
		_, err := conn.Write(appendHeader(nil, kindRelease, 0, 0))
		return err
	})
}

func ask(ctx context.Context, socket string, send func(*net.UnixConn) error) error {
	conn, err := dialUnix(ctx, socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	f, err := answer(ctx, conn, conn, func() error { return send(conn) })
	if err == nil && f.kind != kindOK {
		err = fmt.Errorf("unexpected frame of kind %#x from shim", uint8(f.kind))
	}
	return err
}

func sendPorts(conn *net.UnixConn, held []Port) error {
	for {
		part := held[:min(len(held), portsPerFrame)]
		held = held[len(part):]
		if err := sendPortsFrame(conn, part, len(held) > 0); err != nil || len(held) == 0 {
			return err
		}
	}
}

func sendPortsFrame(conn *net.UnixConn, part []Port, more bool) error {
	msg := wirePorts{More: more, Ports: make([]wirePort, len(part))}
	fds := make([]int, len(part))
	for i, p := range part {
		msg.Ports[i] = wirePort{Proto: p.Proto, Relay: p.Relay}
		fds[i] = int(p.File.Fd())
	}
	body, err := json.Marshal(msg)
	if err != nil {
		return err
	}
	frame := append(appendHeader(nil, kindPorts, 0, len(body)), body...)
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	n, _, err := conn.WriteMsgUnix(frame, rights, nil)
	if err != nil {
		return err
	}
	if n < len(frame) {
		_, err = conn.Write(frame[n:])
	}
	return err
}

// Request is what a client of the stream socket asks for: exactly one field is set.
type Request struct {
	Hello   *Hello
	Ports   []Port // not nil, perhaps empty; the files are the receiver's
	Release bool
	Prober  []byte // not nil; the process of a prober, as JSON
	Execs   bool
	Fifos   *Fifos
	End     *string // the process whose streams are over; see EndFifos
}

// ReadRequest is the shim's side of the opening: it reads the first frame of a
// connection, and for Ports all of them.
func ReadRequest(conn *net.UnixConn) (_ Request, err error) {
	r := &rightsReader{conn: conn}
	ports := []Port{}
	defer func() {
		r.closeAll()
		if err != nil {
			closePorts(ports)
		}
	}()
	for {
		f, err := readRaw(r, nil)
		if err != nil {
			return Request{}, noEOF(err)
		}
		switch f.kind {
		case kindHello:
			h := new(Hello)
			if err := json.Unmarshal(f.body, h); err != nil {
				return Request{}, fmt.Errorf("malformed hello: %w", err)
			}
			return Request{Hello: h}, nil
		case kindExecs:
			return Request{Execs: true}, nil
		case kindProber:
			return Request{Prober: f.body}, nil
		case kindRelease:
			return Request{Release: true}, nil
		case kindFifos:
			f, err := decodeJSON[Fifos](f.body)
			return Request{Fifos: f}, err
		case kindEndFifos:
			end, err := decodeJSON[wireEnd](f.body)
			if err != nil {
				return Request{}, err
			}
			return Request{End: &end.Proc}, nil
		case kindPorts:
			more, err := r.appendPorts(&ports, f.body)
			if err != nil {
				return Request{}, err
			}
			if !more {
				return Request{Ports: ports}, nil
			}
		default:
			return Request{}, fmt.Errorf("unexpected frame of kind %#x", uint8(f.kind))
		}
	}
}

// maxPorts bounds what one container may hold: every port of three protocols on two families.
const maxPorts = 6 << 16

func closePorts(ports []Port) {
	for _, p := range ports {
		p.File.Close()
	}
}

// rightsReader reads a unix connection and keeps the descriptors that come along.
type rightsReader struct {
	conn *net.UnixConn
	fds  []int
}

func (r *rightsReader) Read(p []byte) (int, error) {
	oob := make([]byte, unix.CmsgSpace(4*253))
	n, oobn, flags, _, err := r.conn.ReadMsgUnix(p, oob)
	if oobn > 0 {
		if perr := r.take(oob[:oobn]); perr != nil {
			return n, perr
		}
	}
	if flags&unix.MSG_CTRUNC != 0 {
		return n, fmt.Errorf("descriptors were cut off")
	}
	if n == 0 && err == nil {
		err = io.EOF
	}
	return n, err
}

func (r *rightsReader) take(oob []byte) error {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return err
	}
	for _, m := range msgs {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return err
		}
		r.fds = append(r.fds, fds...)
	}
	return nil
}

// appendPorts joins the body of a Ports frame with the descriptors that came.
func (r *rightsReader) appendPorts(ports *[]Port, body []byte) (more bool, err error) {
	var msg wirePorts
	if err := json.Unmarshal(body, &msg); err != nil {
		return false, fmt.Errorf("malformed ports: %w", err)
	}
	if len(msg.Ports) != len(r.fds) || len(*ports) > maxPorts {
		return false, fmt.Errorf("%d ports came with %d descriptors", len(msg.Ports), len(r.fds))
	}
	for i, p := range msg.Ports {
		file := os.NewFile(uintptr(r.fds[i]), p.Proto)
		*ports = append(*ports, Port{File: file, Proto: p.Proto, Relay: p.Relay})
	}
	r.fds = nil
	return msg.More, nil
}

func (r *rightsReader) closeAll() {
	for _, fd := range r.fds {
		unix.Close(fd)
	}
	r.fds = nil
}

// Input is what a client sends after its Hello.
type Input struct {
	// Data for stdin. Valid until the next read.
	Data []byte
	// Close ends stdin.
	Close bool
}

// InputReader reads what a client sends after its Hello. Not safe for concurrent use.
type InputReader struct {
	r   io.Reader
	buf []byte
}

// NewInputReader returns a reader of the client's side of conn.
func NewInputReader(conn io.Reader) *InputReader { return &InputReader{r: conn} }

// Next returns the next piece of input, io.EOF when the client has gone.
func (r *InputReader) Next() (Input, error) {
	f, err := readRaw(r.r, r.buf)
	if err != nil {
		return Input{}, err
	}
	r.buf = f.body[:0]
	switch f.kind {
	case kindStdin:
		return Input{Data: f.body}, nil
	case kindCloseStdin:
		return Input{Close: true}, nil
	}
	return Input{}, fmt.Errorf("unexpected frame of kind %#x", uint8(f.kind))
}
