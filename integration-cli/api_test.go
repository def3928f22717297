package integrationcli

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"gantry/internal/testutil/engine"
)

func do(t *testing.T, e *engine.Engine, method, path, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, "http://gantry"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	r, err := e.HTTP().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r, string(raw)
}

func TestAPI(t *testing.T) {
	e := start(t)
	for _, tc := range []struct {
		method, path, body string
		status             int
		message            string
	}{
		{"GET", "/_ping", "", 200, ""},
		{"HEAD", "/_ping", "", 200, ""},
		{"GET", "/v1.24/_ping", "", 200, ""},
		{"GET", "/v1.51/version", "", 200, ""},
		{"GET", "/version", "", 200, ""},
		{"GET", "/v1.52/version", "", 400, "client version 1.52 is too new. Maximum supported API version is 1.51"},
		{"GET", "/v1.23/version", "", 400, "client version 1.23 is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"},
		{"GET", "/nope", "", 404, "page not found"},
		{"GET", "/v1.51/containers/nope/json", "", 404, "No such container: nope"},
		{"GET", "/v1.51/images/nope/json", "", 404, "No such image: nope:latest"},
		{"POST", "/v1.51/containers/create", "{", 400, "invalid JSON: unexpected EOF"},
		{"POST", "/v1.51/containers/create", "{}{}", 400, "unexpected content after JSON"},
		{"POST", "/v1.51/containers/create", `{"Image":"nope"}`, 404, "No such image: nope:latest"},
		{"POST", "/v1.51/containers/create", `{"Image":""}`, 400, ""},
		{"GET", `/v1.51/containers/json?filters={"nope":["x"]}`, "", 400, "invalid filter 'nope'"},
		{"GET", "/v1.51/swarm", "", 503, "This node is not a swarm manager. Use \"docker swarm init\" or \"docker swarm join\" to connect this node to swarm and try again."},
		{"GET", "/v1.51/info", "", 200, ""},
		{"GET", "/v1.51/system/df", "", 200, ""},
	} {
		r, body := do(t, e, tc.method, tc.path, tc.body)
		if r.StatusCode != tc.status {
			t.Errorf("%s %s: %d %s, want %d", tc.method, tc.path, r.StatusCode, body, tc.status)
		}
		for h, want := range map[string]string{"Api-Version": "1.51", "Ostype": "linux", "Docker-Experimental": "false"} {
			if got := r.Header.Get(h); got != want {
				t.Errorf("%s %s: %s is %q", tc.method, tc.path, h, got)
			}
		}
		if !strings.HasPrefix(r.Header.Get("Server"), "Docker/") && !strings.HasPrefix(r.Header.Get("Server"), "Gantry/") {
			t.Errorf("Server is %q", r.Header.Get("Server"))
		}
		if tc.message != "" {
			var e struct{ Message string }
			if strings.HasPrefix(tc.path, "/v1.23/") { // before 1.24 errors are plain text, as in dockerd
				e.Message = strings.TrimSpace(body)
			} else if err := json.Unmarshal([]byte(body), &e); err != nil {
				t.Error(err)
			}
			if e.Message != tc.message {
				t.Errorf("%s %s: %s, want %q", tc.method, tc.path, body, tc.message)
			}
		}
	}
	huge := `{"Image":"` + strings.Repeat("x", 9<<20) + `"}`
	req, err := http.NewRequest("POST", "http://gantry/v1.51/containers/create", strings.NewReader(huge))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	// The answer may come, or the connection be closed, before all of it is sent.
	if r, err := e.HTTP().Do(req); err == nil {
		r.Body.Close()
		if r.StatusCode != 400 {
			t.Errorf("a body that is too large: %s", r.Status)
		}
	}
	if out := e.Must("version", "--format", "{{.Server.APIVersion}} {{.Server.MinAPIVersion}} {{.Server.Os}}"); out != "1.51 1.24 linux" {
		t.Errorf("version %s", out)
	}
	if r := e.Docker("info"); r.Code != 0 || strings.Contains(r.Stderr, "ERROR") || !strings.Contains(r.Stdout, "Storage Driver: overlayfs") {
		t.Errorf("info: %d\n%s%s", r.Code, r.Stdout, r.Stderr)
	}
}
