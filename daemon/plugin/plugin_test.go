package plugin_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/api/errdefs"
	"gantry/daemon/plugin"
)

// serve runs a plugin of its name on a unix socket.
func serve(t *testing.T, socket string, h http.Handler) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	s.Start()
	t.Cleanup(s.Close)
}

// does answers Plugin.Activate, and anything else with its own name.
func does(kinds string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/Plugin.Activate" {
			fmt.Fprintf(w, `{"Implements":[%s]}`, kinds)
			return
		}
		fmt.Fprintf(w, `{"Path":%q,"Type":%q}`, r.URL.Path, r.Header.Get("Content-Type"))
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestGet(t *testing.T) {
	dir := t.TempDir()
	dirs := plugin.Directories{Sockets: []string{dir + "/absent", dir + "/s"}, Specs: []string{dir + "/p", dir + "/q"}}
	yes := does(`"VolumeDriver","authz"`)
	serve(t, dir+"/s/plain.sock", yes)
	serve(t, dir+"/s/nested/nested.sock", yes)
	serve(t, dir+"/o/elsewhere", yes)
	tcp, tls := httptest.NewServer(yes), httptest.NewTLSServer(yes)
	defer tcp.Close()
	defer tls.Close()
	write(t, dir+"/p/spec.spec", "unix://"+dir+"/o/elsewhere\n")
	write(t, dir+"/q/tcp/tcp.spec", strings.Replace(tcp.URL, "http", "tcp", 1))
	write(t, dir+"/q/json.json", `{"Name":"json","Addr":"`+strings.Replace(tls.URL, "https", "tcp", 1)+`","TLSConfig":{"InsecureSkipVerify":false}}`)
	write(t, dir+"/p/plain.spec", "unix:///nonexistent") // a socket counts first
	for _, name := range []string{"plain", "nested", "spec", "tcp", "json"} {
		c, err := plugin.Get(t.Context(), dirs, name, "authz")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var says struct{ Path, Type string }
		if err := c.Call(t.Context(), "Some.Method", map[string]int{"a": 1}, &says); err != nil || says.Path != "/Some.Method" || !strings.HasPrefix(says.Type, "application/vnd.docker.plugins.") || c.Name() != name {
			t.Errorf("%s: %+v, %v", name, says, err)
		}
		c.Close()
	}
}

func TestGetErrors(t *testing.T) {
	dir := t.TempDir()
	dirs := plugin.Directories{Sockets: []string{dir}, Specs: []string{dir}}
	serve(t, dir+"/other.sock", does(`"NetworkDriver"`))
	serve(t, dir+"/silly.sock", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }))
	write(t, dir+"/scheme.spec", "just words")
	write(t, dir+"/ftp.spec", "ftp://x")
	write(t, dir+"/bad.json", "{")
	write(t, dir+"/file.sock", "no socket")
	for name, want := range map[string]string{
		"":          `invalid plugin name ""`,
		"../x":      "invalid plugin name",
		"..":        "invalid plugin name",
		"absent":    `plugin "absent" not found`,
		"file":      `plugin "file" not found`,
		"other":     `legacy plugin: Plugin does not implement the requested driver: plugin="other", requested implementation="authz"`,
		"silly":     "legacy plugin: Plugin.Activate: invalid character '<'",
		"scheme":    `unknown protocol in address "just words"`,
		"ftp":       "protocol ftp is not supported",
		"bad":       "unexpected end of JSON input",
		"not there": `plugin "not there" not found`,
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if name == "other" || name == "silly" {
			ctx = t.Context()
		}
		_, err := plugin.Get(ctx, dirs, name, "authz")
		cancel()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", name, err, want)
		}
		if strings.Contains(want, "not found") != errors.Is(err, errdefs.ErrNotFound) || name == "other" != errors.Is(err, plugin.ErrNotImplemented) {
			t.Errorf("%q: class of %v", name, err)
		}
	}
}

// TestGetWaits: a plugin that comes a little later is waited for.
func TestGetWaits(t *testing.T) {
	dir := t.TempDir()
	got := make(chan error, 1)
	go func() {
		_, err := plugin.Get(t.Context(), plugin.Directories{Sockets: []string{dir}}, "late", "authz")
		got <- err
	}()
	time.Sleep(50 * time.Millisecond)
	serve(t, dir+"/late.sock", does(`"authz"`))
	if err := <-got; err != nil {
		t.Error(err)
	}
}

func TestCallErrors(t *testing.T) {
	dir := t.TempDir()
	answer := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/Plugin.Activate":
			io.WriteString(w, `{"Implements":["authz"]}`)
		case "/Err":
			w.WriteHeader(http.StatusBadRequest)
			io.WriteString(w, `{"Err":"out of order"}`)
		case "/Text":
			http.Error(w, "plain words", http.StatusInternalServerError)
		case "/Silent":
			w.WriteHeader(http.StatusTeapot)
		case "/Long":
			for range 20 {
				w.Write(make([]byte, 1<<20))
			}
		case "/Moved":
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusTemporaryRedirect)
		case "/Cut":
			panic(http.ErrAbortHandler)
		case "/Hangs":
			io.Copy(io.Discard, r.Body) // else the server would not see the client go
			<-r.Context().Done()
		}
	}
	serve(t, dir+"/p.sock", http.HandlerFunc(answer))
	c, err := plugin.Get(t.Context(), plugin.Directories{Sockets: []string{dir}}, "p", "authz")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for method, want := range map[string]string{
		"Err": "Err: out of order", "Text": "Text: plain words", "Silent": "Silent: 418 I'm a teapot", "Long": "Long: answer of more than",
		"Moved": "Moved: 307", "Cut": "EOF", "Hangs": "context deadline exceeded", "Nothing": "Nothing: unexpected end of JSON input",
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		if method == "Hangs" {
			ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
		}
		var out any
		err := c.Call(ctx, method, nil, &out)
		cancel()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", method, err, want)
		}
	}
}
