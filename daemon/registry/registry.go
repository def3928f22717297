// Package registry reaches image registries (OCI distribution specification 1.1)
// with Docker's rules about which hosts, over what transport, with whose word.
//
// A repository is asked at its mirrors first, those of Docker Hub's images only, then
// at its own host. A host is insecure when the configuration says so or when it is a
// loopback address: its certificate is not checked then, and plain HTTP is used when
// it does not speak TLS. Certificates for a host are read from
// <certs dir>/<host[:port]>/: *.crt are authorities, *.cert with *.key are ours.
//
// Credentials go to the repository's own host only, never to a mirror; oras-go, which
// does the protocol, keeps them from redirects and from foreign token servers.
package registry

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/distribution/reference"
	registrytypes "github.com/docker/docker/api/types/registry"
	"golang.org/x/net/http/httpproxy"
	"oras.land/oras-go/v2/registry/remote/auth"

	"gantry/api/errdefs"
)

// Config says which hosts are reached how; Reconfigure replaces it whole.
type Config struct {
	Insecure  []string // host names, host:port or CIDR, beside 127.0.0.0/8 and ::1/128
	Mirrors   []string // base URLs for Docker Hub's images
	CertsDirs []string // searched in order, all that match count
	UserAgent string   // "" is gantry

	// Proxies for what is asked over each scheme and the hosts that go without, in the
	// form of the environment's variables of these names; "" is the environment's.
	HTTPProxy, HTTPSProxy, NoProxy string
}

// Validate reports every entry that cannot be used.
func (c Config) Validate() error {
	var bad []string
	for _, m := range c.Mirrors {
		if _, err := parseMirror(m); err != nil {
			bad = append(bad, err.Error())
		}
	}
	if _, err := newHostSet(c.Insecure); err != nil {
		bad = append(bad, err.Error())
	}
	if len(bad) > 0 {
		return errdefs.InvalidArgument("%s", strings.Join(bad, "; "))
	}
	return nil
}

const (
	hubDomain = "docker.io"
	hubHost   = "registry-1.docker.io"
)

// Client reaches registries. Safe for concurrent use.
type Client struct {
	now atomic.Pointer[settings]
}

// settings are what the client goes by until it is told otherwise. A repository keeps
// those that it was made with.
type settings struct {
	cfg      Config
	insecure *hostSet
	proxy    func(*url.URL) (*url.URL, error)

	mu    sync.Mutex
	hosts map[string]*host // guarded by mu; by host:port, transports are kept for reuse
}

// New returns a client; entries of cfg that cannot be used are left out (see Validate).
func New(cfg Config) *Client {
	c := &Client{}
	c.Reconfigure(cfg)
	return c
}

// Reconfigure makes repositories go by cfg from now on; what is under way goes on. The
// hosts' certificates are read again, too.
func (c *Client) Reconfigure(cfg Config) {
	if cfg.UserAgent == "" {
		cfg.UserAgent = "gantry"
	}
	set, _ := newHostSet(cfg.Insecure)
	old := c.now.Swap(&settings{cfg: cfg, insecure: set, proxy: cfg.proxy(), hosts: map[string]*host{}})
	if old != nil {
		old.closeIdle()
	}
}

func (s *settings) closeIdle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.hosts {
		h.transport.CloseIdleConnections()
	}
}

// proxy is the environment's choice of proxies where c makes none.
func (c Config) proxy() func(*url.URL) (*url.URL, error) {
	env := httpproxy.FromEnvironment()
	env.HTTPProxy = cmp.Or(c.HTTPProxy, env.HTTPProxy)
	env.HTTPSProxy = cmp.Or(c.HTTPSProxy, env.HTTPSProxy)
	env.NoProxy = cmp.Or(c.NoProxy, env.NoProxy)
	return env.ProxyFunc()
}

// Auth is what one request may show to registries.
type Auth struct {
	Credentials *registrytypes.AuthConfig // nil is anonymous
	Headers     map[string][]string       // sent along with every request
}

// Repository returns the repository that name is in. It does no I/O but reading
// certificates.
func (c *Client) Repository(name reference.Named, a Auth) (*Repository, error) {
	s := c.now.Load()
	r := &Repository{name: name}
	domain := reference.Domain(name)
	own := domain
	if domain == hubDomain {
		own = hubHost
		for _, m := range s.cfg.Mirrors {
			u, err := parseMirror(m)
			if err != nil {
				continue
			}
			e, err := s.endpoint(u.Host, reference.Path(name), Auth{})
			if err != nil {
				return nil, err
			}
			e.mirror, e.plain = true, u.Scheme == "http"
			r.endpoints = append(r.endpoints, e)
		}
	}
	e, err := s.endpoint(own, reference.Path(name), a)
	if err != nil {
		return nil, err
	}
	r.endpoints = append(r.endpoints, e)
	return r, nil
}

func (s *settings) endpoint(hostport, path string, a Auth) (*endpoint, error) {
	h, err := s.host(hostport)
	if err != nil {
		return nil, err
	}
	header := http.Header{"User-Agent": {s.cfg.UserAgent}}
	for k, v := range a.Headers {
		header[http.CanonicalHeaderKey(k)] = v
	}
	return &endpoint{
		host: h, path: path,
		client: &auth.Client{
			Client:     &http.Client{Transport: h.transport},
			Header:     header,
			Cache:      auth.NewCache(),
			ClientID:   "gantry",
			Credential: credential(hostport, a.Credentials),
		},
	}, nil
}

func credential(hostport string, a *registrytypes.AuthConfig) auth.CredentialFunc {
	var cred auth.Credential
	if a != nil {
		cred = auth.Credential{
			Username: a.Username, Password: a.Password,
			RefreshToken: a.IdentityToken, AccessToken: a.RegistryToken,
		}
	}
	return func(_ context.Context, asked string) (auth.Credential, error) {
		if asked == hostport {
			return cred, nil
		}
		return auth.EmptyCredential, nil
	}
}

// parseMirror is Docker's rule for a mirror: a base URL without path, query, fragment
// or credentials.
func parseMirror(m string) (*url.URL, error) {
	u, err := url.Parse(m)
	if err != nil {
		return nil, fmt.Errorf("invalid mirror: %q is not a valid URI: %w", m, err)
	}
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("invalid mirror: unsupported scheme %q in %q", u.Scheme, u)
	case u.Host == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("invalid mirror: path, query, or fragment at end of the URI %q", u)
	case u.User != nil:
		return nil, fmt.Errorf("invalid mirror: username/password not allowed in URI %q", u.Redacted())
	}
	return u, nil
}
