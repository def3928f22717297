// Package fluentd sends logs to a server of fluentd's forward protocol
// (https://github.com/fluent/fluentd/wiki/Forward-Protocol-Specification-v1), in its
// message mode.
package fluentd

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"net"
	"strconv"
	"time"

	"github.com/tinylib/msgp/msgp"

	"gantry/daemon/logger/target"
	"gantry/daemon/logger/target/link"
)

// Target is a server.
type Target struct {
	link    link.Link
	options options
	of      target.Container
	buf     []byte
	chunks  []string // whose acknowledgement is to come
	in      *msgp.Reader
}

// New returns the server that the options name. Nothing is connected yet.
func New(c map[string]string, of target.Container) (*Target, target.Pace, error) {
	o, err := parse(c)
	if err != nil {
		return nil, target.Pace{}, err
	}
	t := &Target{options: o, of: of, link: link.Link{Dial: o.dial, Patience: o.writeTimeout}}
	return t, o.pace, nil
}

func (o *options) dial(ctx context.Context) (net.Conn, error) {
	if o.network == "tls" {
		var d tls.Dialer
		return d.DialContext(ctx, "tcp", o.address)
	}
	var d net.Dialer
	return d.DialContext(ctx, o.network, o.address)
}

// Connect implements target.Target.
func (t *Target) Connect(ctx context.Context) error {
	if t.link.Conn() != nil && t.options.reconnect > 0 && t.link.Age() > t.options.reconnect {
		if err := t.link.Settle(ctx); err != nil {
			return err
		}
		t.link.Close()
	}
	if t.link.Conn() == nil {
		t.in = nil
	}
	return t.link.Connect(ctx)
}

// Settle implements target.Target. What has been acknowledged is settled already.
func (t *Target) Settle(ctx context.Context) error { return t.link.Settle(ctx) }

// Close implements target.Target.
func (t *Target) Close() error { return t.link.Close() }

// Send implements target.Target. With acknowledgements it waits for them.
func (t *Target) Send(ctx context.Context, entries []target.Entry) error {
	if err := t.Connect(ctx); err != nil {
		return err
	}
	t.buf, t.chunks = t.buf[:0], t.chunks[:0]
	for i := range entries {
		t.buf = t.encode(t.buf, &entries[i])
	}
	before := t.link.Conn()
	if err := t.link.Write(ctx, t.buf); err != nil {
		return err
	}
	if len(t.chunks) == 0 {
		return nil
	}
	if t.in == nil || t.link.Conn() != before {
		t.in = ackReader(t.link.Conn())
	}
	return t.awaitAcks(ctx)
}

// defaultAckTimeout bounds the wait for one acknowledgement.
const defaultAckTimeout = 30 * time.Second

func (t *Target) awaitAcks(ctx context.Context) (err error) {
	defer t.link.Guard(ctx, &err)()
	limit := t.options.writeTimeout
	if limit == 0 {
		limit = defaultAckTimeout
	}
	for _, want := range t.chunks {
		if err := t.link.Conn().SetReadDeadline(time.Now().Add(limit)); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		got, err := readAck(t.in)
		if err != nil {
			return fmt.Errorf("await acknowledgement: %w", err)
		}
		if got != want {
			return fmt.Errorf("acknowledgement of %q where that of %q was to come", got, want)
		}
	}
	t.link.Settled()
	return t.link.Conn().SetReadDeadline(time.Time{})
}

// maxAck bounds in bytes what a server may answer, and maxAckDepth how deep.
const (
	maxAck      = 256
	maxAckDepth = 8
)

func ackReader(r io.Reader) *msgp.Reader {
	in := msgp.NewReaderSize(r, 512)
	in.SetMaxStringLength(maxAck)
	in.SetMaxElements(maxAck) // also of binaries, which a key may be
	in.SetMaxRecursionDepth(maxAckDepth)
	return in
}

func readAck(r *msgp.Reader) (ack string, err error) {
	n, err := r.ReadMapHeader()
	if err != nil {
		return "", err
	}
	for range min(n, 8) {
		key, err := r.ReadMapKey(nil)
		if err != nil {
			return "", err
		}
		if string(key) != "ack" {
			if err := r.Skip(); err != nil {
				return "", err
			}
			continue
		}
		text, err := r.ReadStringAsBytes(make([]byte, 0, maxAck))
		if err != nil {
			return "", err
		}
		ack = string(text)
	}
	return ack, nil
}

// encode appends a message: tag, time, record and options.
func (t *Target) encode(b []byte, e *target.Entry) []byte {
	b = msgp.AppendArrayHeader(b, 4)
	b = msgp.AppendString(b, t.of.Tag)
	b = t.appendTime(b, e.Time)
	b = t.appendRecord(b, e)
	if !t.options.requestAck {
		return msgp.AppendMapHeader(b, 0)
	}
	chunk := newChunk()
	t.chunks = append(t.chunks, chunk)
	b = msgp.AppendMapHeader(b, 1)
	b = msgp.AppendString(b, "chunk")
	return msgp.AppendString(b, chunk)
}

func newChunk() string {
	var id [16]byte
	rand.Read(id[:]) //nolint:errcheck // never fails
	return base64.StdEncoding.EncodeToString(id[:])
}

// appendTime appends seconds, or the protocol's EventTime: extension 0 of eight bytes.
func (t *Target) appendTime(b []byte, at time.Time) []byte {
	if !t.options.subSecond {
		return msgp.AppendInt64(b, at.Unix())
	}
	b = append(b, 0xd7, 0x00)
	b = binary.BigEndian.AppendUint32(b, uint32(at.Unix()))
	return binary.BigEndian.AppendUint32(b, uint32(at.Nanosecond()))
}

func (t *Target) appendRecord(b []byte, e *target.Entry) []byte {
	own := map[string]string{
		"container_id": t.of.ID, "container_name": "/" + t.of.Name, "source": e.Stream.String(),
	}
	maps.Copy(own, t.of.Attrs)
	if e.Part != nil {
		own["partial_message"] = "true"
		own["partial_id"] = e.Part.ID
		own["partial_ordinal"] = strconv.Itoa(e.Part.Ordinal)
		own["partial_last"] = strconv.FormatBool(e.Part.Last)
	}
	text, is := own["log"] // an attribute of that name wins, as with dockerd
	delete(own, "log")
	b = msgp.AppendMapHeader(b, uint32(len(own)+1))
	for k, v := range own {
		b = msgp.AppendString(msgp.AppendString(b, k), v)
	}
	b = msgp.AppendString(b, "log")
	if is {
		return msgp.AppendString(b, text)
	}
	return msgp.AppendStringFromBytes(b, e.Line)
}
