package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	registrytypes "github.com/docker/docker/api/types/registry"

	"gantry/api/errdefs"
)

func TestServerHost(t *testing.T) {
	for in, want := range map[string]string{
		"": "registry-1.docker.io", "https://index.docker.io/v1/": "registry-1.docker.io", "docker.io": "registry-1.docker.io",
		"localhost:5000": "localhost:5000", "http://reg.example/": "reg.example", "https://[::1]:5000": "[::1]:5000",
	} {
		if got, err := serverHost(in); err != nil || got != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, bad := range []string{"https://", "http://%zz", "/x"} {
		if got, err := serverHost(bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %q, %v", bad, got, err)
		}
	}
}

// TestLogin tries credentials where they are asked for in either way, and where not.
func TestLogin(t *testing.T) {
	good := func(r *http.Request) bool {
		user, password, _ := r.BasicAuth()
		return user == "me" && password == "secret"
	}
	basic := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !good(r) {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer basic.Close()
	var token *httptest.Server
	token = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path == "/token" && good(r):
			if r.FormValue("offline_token") == "true" && r.FormValue("account") == "me" && r.FormValue("service") == "test" {
				_, _ = io.WriteString(w, `{"token":"good","refresh_token":"for ever"}`)
				return
			}
			_, _ = io.WriteString(w, `{"token":"good"}`)
		case r.URL.Path == "/token":
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}`)
		case r.Header.Get("Authorization") != "Bearer good":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q,service=%q", token.URL+"/token", "test"))
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer token.Close()
	open := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer open.Close()
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	defer broken.Close()
	gone := httptest.NewServer(nil)
	gone.Close()

	c, tokens := New(Config{}), token.URL
	for _, k := range []struct {
		url, user, password string
		text                string // of the error
		denied              bool
	}{
		{basic.URL, "me", "secret", "", false},
		{basic.URL, "me", "wrong", "login attempt to " + basic.URL + "/v2/ failed with status: 401 Unauthorized", true},
		{basic.URL, "", "", `Get "` + basic.URL + `/v2/": no basic auth credentials`, true},
		{token.URL, "me", "secret", "", false},
		{token.URL, "me", "wrong", `Get "` + token.URL + `/v2/": unauthorized: incorrect username or password`, true},
		{open.URL, "me", "any", "", false},
		{broken.URL, "me", "any", "login attempt to " + broken.URL + "/v2/ failed with status: 418 I'm a teapot", false},
		{gone.URL, "me", "any", `Get "` + gone.URL + `/v2/": dial tcp `, false},
	} {
		for _, address := range []string{k.url, strings.TrimPrefix(k.url, "http://")} {
			token, err := c.Login(t.Context(), &registrytypes.AuthConfig{ServerAddress: address, Username: k.user, Password: k.password})
			if k.text == "" {
				check(t, err)
				if want := map[string]string{tokens: "for ever"}[k.url]; token != want {
					t.Errorf("%s: identity token %q, want %q", address, token, want)
				}
				continue
			}
			if err == nil || !strings.HasPrefix(err.Error(), k.text) || errors.Is(err, errdefs.ErrUnauthenticated) != k.denied {
				t.Errorf("%s as %q: %v, class %v", address, k.user, err, errdefs.Class(err))
			}
		}
	}
}

// TestReconfigure: who was made under the old configuration keeps it, who comes goes by
// the new one.
func TestReconfigure(t *testing.T) {
	var through atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		through.Add(1)
		if r.URL.Host != "reg.example" {
			t.Errorf("the proxy is asked for %s", r.URL)
		}
		serve(w, r)
	}))
	defer proxy.Close()
	c := New(Config{NoProxy: "reg.example", Mirrors: []string{proxy.URL}})
	old := c.now.Load()
	direct, err := old.proxy(&url.URL{Scheme: "http", Host: "reg.example"})
	if err != nil || direct != nil {
		t.Errorf("proxy for a host that goes without: %v, %v", direct, err)
	}
	c.Reconfigure(Config{HTTPProxy: proxy.URL, HTTPSProxy: "http://127.0.0.1:1", Insecure: []string{"reg.example"}})
	r := repository(t, c, "reg.example", Auth{})
	r.endpoints[0].host.speaks.Store(speaksPlain)
	used(t, r)
	if through.Load() == 0 {
		t.Error("the proxy was not asked")
	}
	if len(c.now.Load().cfg.Mirrors) != 0 || len(old.cfg.Mirrors) != 1 {
		t.Error("configurations are mixed")
	}
}
