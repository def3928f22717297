package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"gantry/api/errdefs"
)

// ErrAuthorization says that a registry wants credentials, or others.
var ErrAuthorization = errors.New("authorization failed")

// A basic challenge that nothing was given for: what is pulled may as well not be there.
var (
	errNoCredentials     = fmt.Errorf("pull access denied, repository does not exist or may require authorization: %w: no basic auth credentials", ErrAuthorization)
	errPushNoCredentials = fmt.Errorf("%w: no basic auth credentials", ErrAuthorization)
)

// NoCredentials says whether a registry asked for a user name and none was given.
func NoCredentials(err error) bool { return errors.Is(err, errNoCredentials) }

// classify turns what oras-go says into our classes and the words of containerd's
// resolver, which Docker shows.
func classify(err error) error {
	var resp *errcode.ErrorResponse
	var request *url.Error
	switch {
	case err == nil || errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return errNoCredentials
	case errors.As(err, &resp):
		return classifyResponse(resp)
	case errors.Is(err, errdef.ErrNotFound):
		return errdefs.WithClass(errdefs.ErrNotFound, notFound{err})
	case errors.As(err, &request):
		return fmt.Errorf("failed to do request: %w", err)
	}
	return err
}

// classifyPush is classify for what is pushed.
func classifyPush(err error) error {
	if errors.Is(err, auth.ErrBasicCredentialNotFound) {
		return errdefs.WithClass(errdefs.ErrUnauthenticated, errPushNoCredentials)
	}
	return classify(err)
}

// notFound has only the class's words, what was not found is said by the caller.
type notFound struct{ err error }

func (notFound) Error() string   { return "not found" }
func (e notFound) Unwrap() error { return e.err }

func classifyResponse(resp *errcode.ErrorResponse) error {
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		return errdefs.WithClass(errdefs.ErrUnauthenticated, fmt.Errorf("%w: %w", ErrAuthorization, said(resp)))
	case http.StatusForbidden:
		return errdefs.WithClass(errdefs.ErrPermissionDenied, said(resp))
	case http.StatusNotFound:
		return errdefs.WithClass(errdefs.ErrNotFound, notFound{resp})
	case http.StatusTooManyRequests:
		return errdefs.WithClass(errdefs.ErrResourceExhausted, said(resp))
	case http.StatusServiceUnavailable:
		return errdefs.WithClass(errdefs.ErrUnavailable, said(resp))
	}
	return said(resp)
}

// registryError shows what the registry wrote, in Docker's words.
type registryError struct{ resp *errcode.ErrorResponse }

func said(resp *errcode.ErrorResponse) error { return registryError{resp} }

func (e registryError) Unwrap() error { return e.resp }

func (e registryError) Error() string {
	if len(e.resp.Errors) == 0 {
		return fmt.Sprintf("unexpected status from %s request to %s: %d %s",
			e.resp.Method, e.resp.URL, e.resp.StatusCode, http.StatusText(e.resp.StatusCode))
	}
	var words []string
	for _, one := range e.resp.Errors {
		w := one.Message
		if w == "" {
			w = strings.ToLower(strings.ReplaceAll(one.Code, "_", " "))
		}
		if detail, ok := one.Detail.(string); ok && detail != "" {
			w += " - " + detail
		}
		words = append(words, w)
	}
	return "error from registry: " + strings.Join(words, "\n")
}
