// Package syslog sends logs to a syslog server: RFC 3164 and 5424, by datagrams, TCP,
// TLS or a local socket.
//
// A message bears the time of its entry, not that of its sending, and ends in a newline,
// which over a stream separates it from the next; with TLS and RFC 5424 it is counted
// instead, by RFC 5425.
package syslog

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"github.com/docker/go-connections/tlsconfig"

	"gantry/api/logfile"
	"gantry/daemon/hostpath"
	"gantry/daemon/logger/target"
	"gantry/daemon/logger/target/link"
)

const (
	secure      = "tcp+tls"
	defaultPort = "514"
)

var keys = []string{
	"env", "env-regex", "labels", "labels-regex", "tag", "syslog-address", "syslog-facility", "syslog-format",
	"syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify",
}

// Present looks for the socket that the options name, as dockerd does before a container
// is created.
func Present(c map[string]string) error {
	network, address, err := parseAddress(c["syslog-address"])
	if err != nil {
		return err
	}
	return present(network, address)
}

func present(network, address string) error {
	if network != "unix" && network != "unixgram" {
		return nil
	}
	there, err := hostpath.Exists(context.Background(), address) // bounded by itself
	if err == nil && !there {
		err = &fs.PathError{Op: "stat", Path: address, Err: syscall.ENOENT}
	}
	return err
}

// Check looks at the driver's options as dockerd does, but for Present.
func Check(c map[string]string) error {
	for k := range c {
		if !slices.Contains(keys, k) {
			return fmt.Errorf("unknown log opt '%s' for syslog log driver", k)
		}
	}
	if _, _, err := parseAddress(c["syslog-address"]); err != nil {
		return err
	}
	if _, err := parseFacility(c["syslog-facility"]); err != nil {
		return err
	}
	_, err := parseFormat(c["syslog-format"], "")
	return err
}

// Target is a syslog server.
type Target struct {
	link   link.Link
	format format
	header header
	buf    []byte
	ends   []int // of the messages in buf
}

// New returns the server that the options name. Nothing is connected yet.
func New(c map[string]string, of target.Container) (*Target, target.Pace, error) {
	network, address, err := parseAddress(c["syslog-address"])
	if err != nil {
		return nil, target.Pace{}, err
	}
	facility, err := parseFacility(c["syslog-facility"])
	if err != nil {
		return nil, target.Pace{}, err
	}
	f, err := parseFormat(c["syslog-format"], network)
	if err != nil {
		return nil, target.Pace{}, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	t := &Target{format: f, header: header{facility: facility, host: host, tag: oneLine(of.Tag), pid: os.Getpid()}}
	t.link.Dial, err = dialer(c, network, address)
	return t, target.Pace{}, err
}

// oneLine keeps a tag from ending its message: labels of an image may be part of it.
func oneLine(tag string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, tag)
}

func dialer(c map[string]string, network, address string) (func(context.Context) (net.Conn, error), error) {
	switch network {
	case "":
		return dialLocal, nil
	case secure:
		conf, err := tlsConfig(c)
		d := tls.Dialer{Config: conf}
		return func(ctx context.Context) (net.Conn, error) { return d.DialContext(ctx, "tcp", address) }, err
	}
	return func(ctx context.Context) (net.Conn, error) {
		if err := present(network, address); err != nil {
			return nil, err // in dockerd's words
		}
		var d net.Dialer
		return d.DialContext(ctx, network, address)
	}, nil
}

// maxPEM bounds the files of certificates and keys, in bytes.
const maxPEM = 1 << 20

func tlsConfig(c map[string]string) (*tls.Config, error) {
	_, unverified := c["syslog-tls-skip-verify"]
	opts := tlsconfig.Options{
		CAFile: c["syslog-tls-ca-cert"], CertFile: c["syslog-tls-cert"], KeyFile: c["syslog-tls-key"],
		InsecureSkipVerify: unverified,
	}
	for _, path := range []string{opts.CAFile, opts.CertFile, opts.KeyFile} {
		// They are read whole, and whoever may create a container names them.
		if info, err := os.Stat(path); err == nil && (!info.Mode().IsRegular() || info.Size() > maxPEM) {
			return nil, fmt.Errorf("%s is no file of at most %d bytes", path, maxPEM)
		}
	}
	return tlsconfig.Client(opts)
}

// dialLocal finds the machine's own syslog.
func dialLocal(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	for _, network := range []string{"unixgram", "unix"} {
		for _, path := range []string{"/dev/log", "/var/run/syslog", "/var/run/log"} {
			if conn, err := d.DialContext(ctx, network, path); err == nil {
				return conn, nil
			}
		}
	}
	return nil, errors.New("Unix syslog delivery error") //nolint:staticcheck // Docker's text
}

// Connect implements target.Target.
func (t *Target) Connect(ctx context.Context) error { return t.link.Connect(ctx) }

// Settle implements target.Target.
func (t *Target) Settle(ctx context.Context) error { return t.link.Settle(ctx) }

// Close implements target.Target.
func (t *Target) Close() error { return t.link.Close() }

// Send implements target.Target. An empty line is no message, as with dockerd.
func (t *Target) Send(ctx context.Context, entries []target.Entry) error {
	if err := t.link.Connect(ctx); err != nil {
		return err
	}
	t.buf, t.ends = t.buf[:0], t.ends[:0]
	for i := range entries {
		if len(entries[i].Line) > 0 {
			t.buf = t.format.append(t.buf, &t.header, &entries[i])
			t.ends = append(t.ends, len(t.buf))
		}
	}
	if len(t.ends) == 0 {
		return nil
	}
	if n := t.link.Conn().RemoteAddr().Network(); n != "udp" && n != "unixgram" {
		return t.link.Write(ctx, t.buf)
	}
	begin := 0
	for _, end := range t.ends {
		if err := t.link.Write(ctx, t.buf[begin:end]); err != nil {
			return err
		}
		begin = end
	}
	return nil
}

// severity of a stream's messages: error and informational.
func severity(s logfile.Stream) int {
	if s == logfile.Stderr {
		return 3
	}
	return 6
}

func parseAddress(s string) (network, address string, err error) {
	if s == "" {
		return "", "", nil
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", "", err
	}
	switch u.Scheme {
	case "unix", "unixgram":
		return u.Scheme, u.Path, nil
	case "udp", "tcp", secure:
	default:
		return "", "", fmt.Errorf("unsupported scheme: '%s'", u.Scheme)
	}
	var bad *net.AddrError
	_, _, err = net.SplitHostPort(u.Host)
	switch {
	case err == nil:
		return u.Scheme, u.Host, nil
	case errors.As(err, &bad) && bad.Err == "missing port in address":
		return u.Scheme, net.JoinHostPort(u.Hostname(), defaultPort), nil
	}
	return "", "", err
}

// facilities by their numbers; 12 to 15 have no names here.
var facilities = []string{
	"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
	"", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
}

func parseFacility(s string) (int, error) {
	if s == "" {
		s = "daemon"
	}
	if i := slices.Index(facilities, s); i >= 0 {
		return i, nil
	}
	if n, err := strconv.Atoi(s); err == nil && 0 <= n && n < len(facilities) {
		return n, nil
	}
	return 0, errors.New("invalid syslog facility")
}
