package registry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"gantry/api/errdefs"
)

// host is one registry's address with the transport to it.
type host struct {
	name      string // host[:port]
	insecure  bool
	transport *http.Transport

	probe  singleflight.Group
	speaks atomic.Int32 // what an insecure host speaks, once known
}

const (
	unknown int32 = iota
	speaksTLS
	speaksPlain
)

const probeTimeout = 15 * time.Second

const (
	dialTimeout   = 30 * time.Second
	headerTimeout = 2 * time.Minute
)

// host returns the one host of that name, with its certificates read again when they
// could not be read before. Nobody waits for another host's name to be resolved.
func (s *settings) host(name string) (*host, error) {
	if h := s.known(name, nil); h != nil {
		return h, nil
	}
	h, err := s.newHost(name)
	if err != nil {
		return nil, err
	}
	return s.known(name, h), nil
}

// known returns the host of that name; where there is none yet, made is it from now on.
func (s *settings) known(name string, made *host) *host {
	s.mu.Lock()
	defer s.mu.Unlock()
	if h, ok := s.hosts[name]; ok {
		return h
	}
	if made != nil {
		s.hosts[name] = made
	}
	return made
}

func (s *settings) newHost(name string) (*host, error) {
	h := &host{name: name, insecure: s.insecure.match(name)}
	config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: h.insecure} //nolint:gosec // the user's word
	for _, dir := range s.cfg.CertsDirs {
		if err := readCerts(config, filepath.Join(dir, name)); err != nil {
			return nil, err
		}
	}
	h.transport = &http.Transport{
		Proxy:                 func(r *http.Request) (*url.URL, error) { return s.proxy(r.URL) },
		DialContext:           (&net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:       config,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: headerTimeout,
		MaxIdleConnsPerHost:   4,
		IdleConnTimeout:       30 * time.Second,
		ForceAttemptHTTP2:     true,
	}
	return h, nil
}

// plainHTTP says whether the host is to be spoken to without TLS. Only an insecure
// host ever is, when it does not answer with TLS; that is asked once and remembered.
func (h *host) plainHTTP(ctx context.Context) bool {
	if !h.insecure {
		return false
	}
	if h.speaks.Load() == unknown {
		// One probe for all who ask now; it outlives the one that happens to be first.
		_, _, _ = h.probe.Do("", func() (any, error) {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), probeTimeout)
			defer cancel()
			h.speaks.Store(h.ask(ctx))
			return nil, nil
		})
	}
	return h.speaks.Load() != speaksTLS
}

// ask tries TLS. What it can't tell, a refused connection for one, stays unknown.
func (h *host) ask(ctx context.Context) int32 {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+h.name+"/v2/", nil)
	if err != nil {
		return unknown
	}
	resp, err := h.transport.RoundTrip(req)
	if err == nil {
		resp.Body.Close()
		return speaksTLS
	}
	var record tls.RecordHeaderError
	if errors.As(err, &record) || errors.Is(err, http.ErrSchemeMismatch) {
		return speaksPlain
	}
	return unknown
}

// readCerts adds the certificates of one host's directory, which may be missing.
func readCerts(config *tls.Config, dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		switch filepath.Ext(e.Name()) {
		case ".crt":
			err = addAuthority(config, path)
		case ".cert":
			err = addOwn(config, path, strings.TrimSuffix(path, ".cert")+".key")
		case ".key":
			cert := strings.TrimSuffix(path, ".key") + ".cert"
			if _, err = os.Stat(cert); err != nil {
				err = errdefs.InvalidArgument("missing client certificate %s for key %s", filepath.Base(cert), e.Name())
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func addAuthority(config *tls.Config, path string) error {
	pem, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if config.RootCAs == nil {
		if config.RootCAs, err = x509.SystemCertPool(); err != nil {
			return fmt.Errorf("unable to get system cert pool: %w", err)
		}
	}
	config.RootCAs.AppendCertsFromPEM(pem)
	return nil
}

func addOwn(config *tls.Config, cert, key string) error {
	if _, err := os.Stat(key); err != nil {
		return errdefs.InvalidArgument("missing key %s for client certificate %s. CA certificates must use the extension .crt",
			filepath.Base(key), filepath.Base(cert))
	}
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("load client certificate %s: %w", cert, err)
	}
	config.Certificates = append(config.Certificates, pair)
	return nil
}

// hostSet is the list of insecure registries.
type hostSet struct {
	names map[string]bool
	nets  []netip.Prefix
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

func newHostSet(entries []string) (*hostSet, error) {
	s := &hostSet{names: map[string]bool{"localhost": true}, nets: slices.Clone(loopback)}
	var bad []string
	for _, e := range entries {
		if p, err := netip.ParsePrefix(e); err == nil {
			s.nets = append(s.nets, p.Masked())
			continue
		}
		name := strings.ToLower(e)
		if strings.Contains(name, "://") || strings.ContainsAny(name, "/ ") || name == "" {
			bad = append(bad, fmt.Sprintf("insecure registry %s should not contain a scheme or a path", e))
			continue
		}
		s.names[name] = true
	}
	if len(bad) > 0 {
		return s, errors.New(strings.Join(bad, "; "))
	}
	return s, nil
}

// match decides by the name itself and, for an address, by the networks. A name is
// resolved only when networks beside loopback were given, as in Docker.
func (s *hostSet) match(hostport string) bool {
	name := strings.ToLower(hostport)
	bare := name
	if h, _, err := net.SplitHostPort(name); err == nil {
		bare = h
	}
	bare = strings.Trim(bare, "[]")
	if s.names[name] || s.names[bare] {
		return true
	}
	addr, err := netip.ParseAddr(bare)
	if err == nil {
		return s.contains(addr)
	}
	if len(s.nets) == len(loopback) {
		return false
	}
	ips, err := net.LookupIP(bare)
	if err != nil {
		return false
	}
	for _, ip := range ips {
		if addr, ok := netip.AddrFromSlice(ip); ok && s.contains(addr) {
			return true
		}
	}
	return false
}

func (s *hostSet) contains(a netip.Addr) bool {
	a = a.Unmap()
	for _, n := range s.nets {
		if n.Contains(a) {
			return true
		}
	}
	return false
}
