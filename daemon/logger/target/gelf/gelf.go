// Package gelf sends logs in the Graylog Extended Log Format, version 1.1
// (https://go2docs.graylog.org/current/getting_in_log_data/gelf.html): by UDP,
// compressed and in chunks where a message is too large for a datagram, or by TCP, where
// each ends in a zero byte.
package gelf

import (
	"bytes"
	"compress/flate"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"gantry/api/logfile"
	"gantry/daemon/logger/target"
	"gantry/daemon/logger/target/link"
)

var keys = []string{
	"gelf-address", "tag", "labels", "labels-regex", "env", "env-regex", "gelf-compression-level",
	"gelf-compression-type", "gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay",
}

// Check looks at the driver's options as dockerd does.
func Check(c map[string]string) error {
	u, err := parseAddress(c["gelf-address"])
	if err != nil {
		return err
	}
	for k, v := range c {
		if !slices.Contains(keys, k) {
			return fmt.Errorf("unknown log opt %q for gelf log driver", k)
		}
		if err := check(u.Scheme, k, v); err != nil {
			return err
		}
	}
	return nil
}

func check(network, k, v string) error {
	switch k {
	case "gelf-compression-level", "gelf-compression-type":
		if network != "udp" {
			return errors.New("compression is only supported on UDP")
		}
		good := v == "gzip" || v == "zlib" || v == "none"
		if k == "gelf-compression-level" {
			n, err := strconv.Atoi(v)
			good = err == nil && n >= flate.DefaultCompression && n <= flate.BestCompression
		}
		if !good {
			return fmt.Errorf("unknown value %q for log opt %q for gelf log driver", v, k)
		}
	case "gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay":
		if network != "tcp" {
			return fmt.Errorf("%q is only valid for TCP", k)
		}
		if n, err := strconv.Atoi(v); err != nil || n < 0 {
			return fmt.Errorf("%q must be a positive integer", k)
		}
	}
	return nil
}

func parseAddress(s string) (*url.URL, error) {
	if s == "" {
		return nil, errors.New("gelf-address is a required parameter")
	}
	u, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "udp" && u.Scheme != "tcp" {
		return nil, errors.New("gelf: endpoint needs to be TCP or UDP")
	}
	if _, _, err := net.SplitHostPort(u.Host); err != nil {
		return nil, errors.New("gelf: please provide gelf-address as proto://host:port")
	}
	return u, nil
}

// What Docker's driver does without being told.
const (
	defaultReconnects = 3
	defaultDelay      = 1 // second
)

// Target is a server.
type Target struct {
	link    link.Link
	network string
	address string
	pack    *packer // of datagrams
	head    []byte  // of each message, up to the fields of the entry
	tail    []byte  // after them
	buf     bytes.Buffer
}

// New returns the server that the options name. Nothing is connected yet.
func New(c map[string]string, of target.Container) (*Target, target.Pace, error) {
	var pace target.Pace
	u, err := parseAddress(c["gelf-address"])
	if err != nil {
		return nil, pace, err
	}
	t := &Target{network: u.Scheme, address: u.Host}
	if t.head, t.tail, err = frame(&of); err != nil {
		return nil, pace, err
	}
	if t.network == "udp" {
		if t.pack, err = newPacker(c["gelf-compression-type"], c["gelf-compression-level"]); err != nil {
			return nil, pace, err
		}
	} else {
		pace.Tries = number(c["gelf-tcp-max-reconnect"], defaultReconnects)
		pace.First = time.Duration(number(c["gelf-tcp-reconnect-delay"], defaultDelay)) * time.Second
	}
	t.link.Dial = func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, t.network, t.address)
	}
	return t, pace, nil
}

// number reads what Check has let through.
func number(s string, fallback int) int {
	if n, err := strconv.Atoi(s); err == nil && n >= 0 {
		return n
	}
	return fallback
}

// frame makes what all messages of a container have in common.
func frame(of *target.Container) (head, tail []byte, err error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, nil, errors.New("gelf: cannot access hostname to set source field")
	}
	extra := map[string]any{
		"_container_id": of.ID, "_container_name": of.Name, "_image_id": of.ImageID, "_image_name": of.ImageName,
		"_command": of.Command, "_tag": of.Tag, "_created": of.Created,
	}
	for k, v := range of.Attrs {
		if !strings.HasPrefix(k, "_") {
			k = "_" + k
		}
		extra[k] = v
	}
	if tail, err = json.Marshal(extra); err != nil {
		return nil, nil, err
	}
	tail[0] = ','
	name, err := json.Marshal(host)
	return append([]byte(`{"version":"1.1","host":`), name...), tail, err
}

// Connect implements target.Target.
func (t *Target) Connect(ctx context.Context) error {
	if err := t.link.Connect(ctx); err != nil {
		return fmt.Errorf("gelf: cannot connect to GELF endpoint: %s %w", t.address, err)
	}
	return nil
}

// Settle implements target.Target.
func (t *Target) Settle(ctx context.Context) error { return t.link.Settle(ctx) }

// Close implements target.Target.
func (t *Target) Close() error { return t.link.Close() }

// Send implements target.Target. An empty line is no message, as with dockerd.
func (t *Target) Send(ctx context.Context, entries []target.Entry) error {
	if err := t.Connect(ctx); err != nil {
		return err
	}
	t.buf.Reset()
	for i := range entries {
		if len(entries[i].Line) == 0 {
			continue
		}
		t.encode(&entries[i])
		if t.pack == nil {
			t.buf.WriteByte(0)
			continue
		}
		if err := t.sendDatagrams(ctx, i); err != nil {
			return err
		}
	}
	if t.buf.Len() == 0 {
		return nil
	}
	return t.link.Write(ctx, t.buf.Bytes())
}

func (t *Target) sendDatagrams(ctx context.Context, index int) error {
	defer t.buf.Reset()
	datagrams, err := t.pack.pack(t.buf.Bytes())
	if err != nil {
		return &target.Refused{Index: index, Err: err}
	}
	for _, d := range datagrams {
		if err := t.link.Write(ctx, d); err != nil {
			return err
		}
	}
	return nil
}

// encode appends a message to buf.
func (t *Target) encode(e *target.Entry) {
	level := byte('6')
	if e.Stream == logfile.Stderr {
		level = '3'
	}
	line, _ := json.Marshal(string(e.Line)) // strings always marshal
	t.buf.Write(t.head)
	t.buf.WriteString(`,"short_message":`)
	t.buf.Write(line)
	t.buf.WriteString(`,"timestamp":`)
	t.buf.Write(strconv.AppendFloat(nil, float64(e.Time.UnixMilli())/1000, 'f', -1, 64))
	t.buf.WriteString(`,"level":`)
	t.buf.WriteByte(level)
	t.buf.Write(t.tail)
}
