package shimwire

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"gantry/api/errdefs"
)

// Probe asks for one run of the process that a Prober was opened with.
type Probe struct {
	// ID is the run's, unique in the container, fit for a file name.
	ID string `json:"id"`
	// Timeout is how long the process may run before it is killed with all it has
	// begun; its start does not count.
	Timeout time.Duration `json:"timeout"`
}

// Probed is how a probe ended.
type Probed struct {
	// Status is the exit code, or 128+n for signal n.
	Status int
	At     time.Time
	// TimedOut: it was killed for its time.
	TimedOut bool
	// Output is the beginning of what it wrote, to stdout and stderr in its own order,
	// at most MaxProbeOutput bytes; Cut says that there was more.
	Output []byte
	Cut    bool
}

// MaxProbeOutput bounds Probed.Output in bytes.
const MaxProbeOutput = 4096

// Prober runs one process of a container again and again, with one exchange of messages
// a run and nothing left behind. Whatever runs when it is closed is killed with all it
// has begun. Not safe for concurrent use, but for Close.
type Prober struct {
	conn net.Conn
	r    *bufio.Reader
	buf  []byte
}

// proberBuffer holds most answers; there may be many probers, at rest most of the time.
const proberBuffer = 512

// DialProber opens a prober of a runtime-spec process, as JSON, on the container's
// socket. ctx bounds the opening only. A shim that knows no probers is Unavailable, as
// is one that is not there.
func DialProber(ctx context.Context, socket string, process []byte) (*Prober, error) {
	if len(process) > MaxBody {
		return nil, errdefs.InvalidArgument("process of the probe is too large")
	}
	conn, err := dialUnix(ctx, socket)
	if err != nil {
		return nil, err
	}
	p := &Prober{conn: conn, r: bufio.NewReaderSize(conn, proberBuffer)}
	hello := append(appendHeader(nil, kindProber, 0, len(process)), process...)
	f, err := exchange(ctx, conn, p.r, hello)
	if err == nil && f.kind != kindOK {
		err = fmt.Errorf("unexpected frame of kind %#x from shim", uint8(f.kind))
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return p, nil
}

// Run runs the process once. When ctx ends the prober is closed, and the process with
// it. After an error of class Unavailable the prober is of no more use; others are the
// shim's, about the process.
func (p *Prober) Run(ctx context.Context, o Probe) (Probed, error) {
	stop := context.AfterFunc(ctx, func() { p.conn.Close() })
	defer stop()
	body, _ := json.Marshal(o) // text and a number always marshal
	p.buf = append(appendHeader(p.buf[:0], kindRun, 0, len(body)), body...)
	var f raw
	_, err := p.conn.Write(p.buf)
	if err == nil {
		f, err = readRaw(p.r, p.buf)
	}
	switch {
	case ctx.Err() != nil:
		return Probed{}, ctx.Err()
	case err != nil:
		return Probed{}, errdefs.Unavailable("shim closed its stream socket")
	case f.kind == kindError:
		return Probed{}, decodeError(f.body)
	}
	return f.probed()
}

// Close ends the connection and what runs on it.
func (p *Prober) Close() error { return p.conn.Close() }

// The body of Ran: status, time in nanoseconds, flags, output.
const (
	probedHead = 4 + 8 + 1

	flagTimedOut = 1
	flagCut      = 2
)

func (f raw) probed() (Probed, error) {
	if f.kind != kindRan || len(f.body) < probedHead {
		return Probed{}, errdefs.Unavailable("malformed frame of kind %#x from shim", uint8(f.kind))
	}
	flags := f.body[12]
	return Probed{
		Status: int(int32(binary.BigEndian.Uint32(f.body))),
		At:     time.Unix(0, int64(binary.BigEndian.Uint64(f.body[4:]))),
		Output: append([]byte(nil), f.body[probedHead:]...), TimedOut: flags&flagTimedOut != 0, Cut: flags&flagCut != 0,
	}, nil
}

// AppendProbed appends the frame for a run's end to dst.
func AppendProbed(dst []byte, p Probed) []byte {
	dst = appendHeader(dst, kindRan, 0, probedHead+len(p.Output))
	dst = binary.BigEndian.AppendUint32(dst, uint32(p.Status))
	dst = binary.BigEndian.AppendUint64(dst, uint64(p.At.UnixNano()))
	var flags byte
	if p.TimedOut {
		flags |= flagTimedOut
	}
	if p.Cut {
		flags |= flagCut
	}
	return append(append(dst, flags), p.Output...)
}

// ProbeReader reads what a client asks of a prober. Not safe for concurrent use.
type ProbeReader struct {
	r   io.Reader
	buf []byte
}

// NewProbeReader returns a reader of the client's side of conn.
func NewProbeReader(conn io.Reader) *ProbeReader { return &ProbeReader{r: conn} }

// Next waits for the next run that is asked for; io.EOF when the client has gone.
func (r *ProbeReader) Next() (o Probe, err error) {
	f, err := readRaw(r.r, r.buf)
	if err != nil {
		return o, err
	}
	r.buf = f.body[:0]
	if f.kind != kindRun {
		return o, fmt.Errorf("unexpected frame of kind %#x", uint8(f.kind))
	}
	if err := json.Unmarshal(f.body, &o); err != nil {
		return o, fmt.Errorf("malformed probe: %w", err)
	}
	if o.ID == "" || o.Timeout <= 0 {
		return o, errors.New("malformed probe: no id or no timeout")
	}
	return o, nil
}
