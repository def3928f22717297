package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
)

// Ports of the API over TCP, without and with TLS.
const (
	plainPort = "2375"
	tlsPort   = "2376"
)

// completeHost is an address of --host with what it leaves out: the protocol (tcp), the
// host (127.0.0.1), the port or the path.
func completeHost(host string, tls bool) (string, error) {
	host = strings.TrimSpace(host)
	proto, addr, ok := strings.Cut(host, "://")
	if !ok {
		proto, addr = "tcp", proto
	}
	switch {
	case proto == "fd":
		return host, nil
	case proto == "unix" && strings.Contains(addr, "://"):
		return "", fmt.Errorf("invalid bind address (%s): invalid unix address: %s", host, addr)
	case proto == "unix" && addr == "":
		return DefaultHost, nil
	case proto == "unix":
		return host, nil
	case proto != "tcp":
		return "", fmt.Errorf("invalid bind address (%s): unsupported proto '%s'", host, proto)
	case strings.ContainsAny(addr, "/?#@"):
		return "", fmt.Errorf("invalid bind address (%s): should not contain a path element", host)
	}
	name, port, err := splitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("invalid bind address (%s): %w", host, err)
	}
	def := plainPort
	if tls {
		def = tlsPort
	}
	return "tcp://" + net.JoinHostPort(cmp.Or(name, "127.0.0.1"), cmp.Or(port, def)), nil
}

// splitHostPort lets the port be absent.
func splitHostPort(addr string) (host, port string, err error) {
	bare := strings.TrimSuffix(strings.TrimPrefix(addr, "["), "]")
	if addr == "" || !strings.Contains(addr, ":") || strings.HasPrefix(addr, "[") && strings.HasSuffix(addr, "]") {
		return bare, "", nil
	}
	return net.SplitHostPort(addr)
}

// completeHosts completes all of c's, and leaves what is wrong as it is, for check.
func (c *Config) completeHosts() {
	hosts := make([]string, 0, len(c.Hosts))
	for _, h := range c.Hosts {
		if full, err := completeHost(h, c.UseTLS()); err == nil {
			h = full
		}
		hosts = append(hosts, h)
	}
	c.Hosts = hosts
}

// completeTLS: naming tlsverify at all turns TLS on, and TLS verifies clients unless
// tlsverify says that it does not. Certificates are looked for where Docker's tools keep
// theirs, if none are named.
func (c *Config) completeTLS() {
	if os.Getenv("DOCKER_TLS_VERIFY") != "" && !c.TLSVerify.Set && !c.TLS.Set {
		c.TLSVerify = Bool{Set: true, Value: true}
	}
	switch {
	case c.TLSVerify.Set:
		c.TLS.Value = true
	case c.TLS.Set:
		c.TLSVerify.Value = c.TLS.Value
	}
	if !c.UseTLS() {
		return
	}
	dir := certificates()
	for _, f := range []struct {
		path *string
		name string
	}{{&c.TLSCACert, "ca.pem"}, {&c.TLSCert, "cert.pem"}, {&c.TLSKey, "key.pem"}} {
		path := filepath.Join(dir, f.name)
		if _, err := os.Stat(path); *f.path == "" && dir != "" && !errors.Is(err, fs.ErrNotExist) {
			*f.path = path
		}
	}
}

func certificates() string {
	if dir := os.Getenv("DOCKER_CERT_PATH"); dir != "" {
		return dir
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, ".docker")
}
