package integrationcli

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
)

// guarded puts a user name and password before a registry and returns its address.
func guarded(t *testing.T, addr, user, password string) string {
	t.Helper()
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: addr})
		r.Out.Host = r.In.Host // the registry's Location headers name it
	}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if u, p, _ := r.BasicAuth(); u != user || p != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestLogin(t *testing.T) {
	e := start(t)
	addr := guarded(t, registry(t), "me", "secret")
	ref := addr + "/private/app:1"
	e.Must("tag", image, ref)
	if r := e.Docker("push", ref); r.Code != 1 || !strings.HasSuffix(strings.TrimSpace(r.Stderr), "authorization failed: no basic auth credentials") {
		t.Errorf("push without credentials: %d %s", r.Code, r.Stderr)
	}
	if r := e.Docker("login", "-u", "me", "-p", "wrong", addr); r.Code != 1 || !strings.Contains(r.Stderr, "login attempt to http://"+addr+"/v2/ failed with status: 401 Unauthorized") {
		t.Errorf("wrong password: %d %s", r.Code, r.Stderr)
	}
	if got := e.Must("login", "-u", "me", "-p", "secret", addr); got != "Login Succeeded" {
		t.Errorf("login: %q", got)
	}
	e.Must("push", ref)
	e.Must("rmi", ref)
	e.Must("pull", ref)
	e.Must("rmi", ref)
	e.Must("logout", addr)
	if r := e.Docker("pull", ref); r.Code != 1 || !strings.Contains(r.Stderr, "pull access denied, repository does not exist or may require authorization: authorization failed: no basic auth credentials") {
		t.Errorf("pull without credentials: %d %s", r.Code, r.Stderr)
	}
}
