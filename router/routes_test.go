// Package router_test checks that all resources together serve the whole API.
package router_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gantry/internal/testutil/transcript"
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
	h := handler(t)
	for _, row := range operations(t) {
		method, path, _ := strings.Cut(row, " ")
		path = variable.ReplaceAllString(path, "x")
		for _, prefix := range prefixes {
			if !routed(h, method, prefix+path) {
				t.Errorf("%s has no route under %q", row, prefix)
			}
		}
	}
}

// TestOtherMethods asks for each path in every way that no row has: there is no such
// page, as with dockerd, and not a method that is not allowed. OPTIONS is fine anywhere.
func TestOtherMethods(t *testing.T) {
	h, rows := handler(t), operations(t)
	var known []*regexp.Regexp
	for _, row := range rows {
		name := ".*" // names of images have slashes, and dockerd lets the others have them
		if ofSwarm.MatchString(row) {
			name = "[^/]+"
		}
		known = append(known, regexp.MustCompile("^"+variable.ReplaceAllString(row, name)+"$"))
	}
	is := func(method, path string) bool {
		return method == http.MethodOptions || slices.ContainsFunc(known, func(r *regexp.Regexp) bool { return r.MatchString(method + " " + path) })
	}
	for _, row := range rows {
		_, path, _ := strings.Cut(row, " ")
		path = variable.ReplaceAllString(path, "x")
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"} {
			for _, prefix := range prefixes {
				if got, want := routed(h, method, prefix+path), is(method, path); got != want {
					t.Errorf("%s %s%s: routed %v, want %v", method, prefix, path, got, want)
				}
			}
		}
	}
}

// TestEveryRowIsAsked holds the transcripts of a live engine to all operations on
// containers, execs and the system as a whole.
func TestEveryRowIsAsked(t *testing.T) {
	mine := regexp.MustCompile(`^[A-Z]+ /(containers|exec|commit|events|system|version|auth|_ping)\b`)
	files, err := filepath.Glob("../integration-cli/testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	var asked []string
	for _, file := range files {
		exchanges, err := transcript.Read(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range exchanges {
			line, _, _ := strings.Cut(e.Request, "\n")
			path, _, _ := strings.Cut(line, "?")
			asked = append(asked, regexp.MustCompile(`/v[0-9.]+/`).ReplaceAllString(path, "/"))
		}
	}
	for _, row := range operations(t) {
		if !mine.MatchString(row) {
			continue
		}
		if is := regexp.MustCompile("^" + variable.ReplaceAllString(row, "[^/]+") + "$"); !slices.ContainsFunc(asked, is.MatchString) {
			t.Errorf("no transcript asks for %s", row)
		}
	}
}

var (
	variable = regexp.MustCompile(`\{[^}]*\}`)
	ofSwarm  = regexp.MustCompile("^[A-Z]+ /(nodes|services|tasks|secrets|configs)/")
	prefixes = []string{"", "/v1.24", "/v1.51"}
)

func handler(t *testing.T) http.Handler {
	t.Helper()
	s, err := server.New(server.Config{}, resources()...)
	if err != nil {
		t.Fatal(err)
	}
	return s.Handler()
}

func operations(t *testing.T) []string {
	t.Helper()
	list, err := os.ReadFile("testdata/routes.txt")
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(list)), "\n")
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
