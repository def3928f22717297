package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	registrytypes "github.com/docker/docker/api/types/registry"
	orasregistry "oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"gantry/api/errdefs"
)

// loginTimeout bounds one try of credentials.
const loginTimeout = 15 * time.Second

// Login tries credentials at the registry that a names, Docker Hub when it names none;
// mirrors never see them. The token is what clients show from now on instead of the
// password, where the registry's token server gives one. Unauthenticated when they are no good.
func (c *Client) Login(ctx context.Context, a *registrytypes.AuthConfig) (token string, err error) {
	name, err := serverHost(a.ServerAddress)
	if err != nil {
		return "", err
	}
	e, err := c.now.Load().endpoint(name, "", Auth{Credentials: a})
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, loginTimeout)
	defer cancel()
	plain := e.host.plainHTTP(ctx)
	r := &remote.Registry{RepositoryOptions: remote.RepositoryOptions{
		Client: e.client, Reference: orasregistry.Reference{Registry: name}, PlainHTTP: plain,
	}}
	scheme := "https"
	if plain {
		scheme = "http"
	}
	base := scheme + "://" + name + "/v2/"
	if err := r.Ping(ctx); err != nil {
		return "", loginError(base, err)
	}
	return identityToken(ctx, e.client.Client, base, a), nil
}

// serverHost is the host of a server address, which may be a URL and which clients
// keep in older forms for Docker Hub.
func serverHost(address string) (string, error) {
	if address == "" {
		return hubHost, nil
	}
	if !strings.HasPrefix(address, "https://") && !strings.HasPrefix(address, "http://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return "", errdefs.InvalidArgument("unable to parse server address: %w", err)
	}
	switch u.Host {
	case "":
		return "", errdefs.InvalidArgument("unable to parse server address: no host in %q", address)
	case hubDomain, "index." + hubDomain:
		return hubHost, nil
	}
	return u.Host, nil
}

// loginError gives a failure Docker's words. The registry itself tells no reason that
// is worth showing, its token server does.
func loginError(base string, err error) error {
	var resp *errcode.ErrorResponse
	var request *url.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return errdefs.WithClass(errdefs.ErrUnauthenticated, fmt.Errorf("Get %q: no basic auth credentials", base)) //nolint:revive // Docker's words
	case errors.As(err, &resp) && resp.StatusCode == http.StatusUnauthorized && resp.URL != nil && resp.URL.String() != base:
		said := "authentication required"
		if len(resp.Errors) > 0 && resp.Errors[0].Message != "" {
			said = resp.Errors[0].Message
		}
		return errdefs.WithClass(errdefs.ErrUnauthenticated, fmt.Errorf("Get %q: unauthorized: %s", base, said)) //nolint:revive // Docker's words
	case errors.As(err, &resp):
		err = fmt.Errorf("login attempt to %s failed with status: %d %s", base, resp.StatusCode, http.StatusText(resp.StatusCode))
		if resp.StatusCode == http.StatusUnauthorized {
			return errdefs.WithClass(errdefs.ErrUnauthenticated, err)
		}
		return err
	case errors.As(err, &request):
		return request
	}
	return err
}
