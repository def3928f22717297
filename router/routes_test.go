// Package router_test checks that all resources together serve the whole API.
package router_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"gantry/router/build"
	"gantry/router/container"
	"gantry/router/debug"
	"gantry/router/distribution"
	"gantry/router/exec"
	"gantry/router/image"
	"gantry/router/network"
	"gantry/router/plugin"
	"gantry/router/route"
	"gantry/router/server"
	"gantry/router/session"
	"gantry/router/swarm"
	"gantry/router/system"
	"gantry/router/volume"
)

// testdata/routes.txt lists every operation of the Engine API 1.51, and those that
// dockerd serves without documenting them.
func TestEveryOperationHasARoute(t *testing.T) {
	s, err := server.New(server.Config{}, resources()...)
	if err != nil {
		t.Fatal(err)
	}
	list, err := os.ReadFile("testdata/routes.txt")
	if err != nil {
		t.Fatal(err)
	}
	variable := regexp.MustCompile(`\{[^}]*\}`)
	for _, row := range strings.Split(strings.TrimSpace(string(list)), "\n") {
		method, path, _ := strings.Cut(row, " ")
		path = variable.ReplaceAllString(path, "x")
		for _, prefix := range []string{"", "/v1.24", "/v1.51"} {
			if !routed(s.Handler(), method, prefix+path) {
				t.Errorf("%s has no route under %q", row, prefix)
			}
		}
	}
}

// routed says whether a route takes the request: the backends are nil, so those that
// reach one panic into a 500. The context has ended, so that nothing is measured.
func routed(h http.Handler, method, path string) bool {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, nil).WithContext(ctx))
	return w.Code != http.StatusNotFound || !strings.Contains(w.Body.String(), "page not found")
}

func resources() []route.Resource {
	return []route.Resource{
		container.New(nil, container.Config{}), exec.New(nil), image.New(nil), network.New(nil), volume.New(nil), system.New(nil),
		build.New(), session.New(), distribution.New(nil), swarm.New(), plugin.New(), debug.New(func() bool { return true }),
	}
}
