package registry

import (
	"context"
	"net/http"
	"sync"

	"github.com/containerd/containerd/v2/core/remotes/docker"

	"gantry/libctr/core/transfer"
)

// secrets asks for what registries want to know: once per host, unless it was refused.
type secrets struct {
	ctx       context.Context
	reference string
	from      transfer.Credentials

	mu    sync.Mutex
	known map[string]transfer.Secret // guarded by mu: by host, for the resolver's own question
}

// get asks for host's secret and remembers it.
func (s *secrets) get(ctx context.Context, host string) (transfer.Secret, error) {
	v, err := s.from.Get(ctx, s.reference, host)
	if err != nil {
		return v, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known == nil {
		s.known = map[string]transfer.Secret{}
	}
	s.known[host] = v
	return v, nil
}

// credentials is what the resolver asks; authorizer has asked just before.
func (s *secrets) credentials(host string) (name, secret string, err error) {
	s.mu.Lock()
	v, known := s.known[host]
	s.mu.Unlock()
	if !known {
		v, err = s.get(s.ctx, host)
	}
	return v.Username, v.Secret, err
}

// hosts lets every host take a ready header as credentials too, which the resolver does
// not know, and bounds its tokens.
func (s *secrets) hosts(inner docker.RegistryHosts) docker.RegistryHosts {
	return func(host string) ([]docker.RegistryHost, error) {
		list, err := inner(host)
		for i := range list {
			list[i].Authorizer = &authorizer{Authorizer: list[i].Authorizer, secrets: s}
		}
		return list, err
	}
}

// authorizer sets the header Authorization where the credentials are one.
type authorizer struct {
	docker.Authorizer
	secrets *secrets

	mu      sync.Mutex
	headers map[string]string // guarded by mu: by host
}

// Authorize implements docker.Authorizer.
func (a *authorizer) Authorize(ctx context.Context, r *http.Request) error {
	a.mu.Lock()
	h, ready := a.headers[r.URL.Host]
	a.mu.Unlock()
	if ready {
		r.Header.Set("Authorization", h)
		return nil
	}
	return a.Authorizer.Authorize(context.WithValue(ctx, forToken{}, true), r)
}

// AddResponses implements docker.Authorizer. A header that was refused is not tried again.
func (a *authorizer) AddResponses(ctx context.Context, responses []*http.Response) error {
	host := responses[len(responses)-1].Request.URL.Host
	a.mu.Lock()
	_, tried := a.headers[host]
	a.mu.Unlock()
	if tried {
		return docker.ErrInvalidAuthorization
	}
	if a.secrets.from != nil && len(responses) == 1 {
		v, err := a.secrets.get(ctx, host)
		if err != nil {
			return err
		}
		if v.Header != "" {
			a.mu.Lock()
			defer a.mu.Unlock()
			if a.headers == nil {
				a.headers = map[string]string{}
			}
			a.headers[host] = v.Header
			return nil
		}
	}
	return a.Authorizer.AddResponses(ctx, responses)
}
