package httputil_test

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"encoding/json"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/docker/docker/pkg/jsonmessage"

	"gantry/api/errdefs"
	"gantry/router/httputil"
)

func request(contentType, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", contentType)
	if contentType == "" {
		r.Header.Del("Content-Type")
	}
	return r
}

func TestReadJSON(t *testing.T) {
	for _, row := range []struct{ why, kind, body, want string }{
		{"value", "application/json", `{"A":1}`, ""},
		{"unknown field", "application/json; charset=utf-8", `{"A":1,"B":2}`, ""},
		{"no body", "", "", ""},
		{"white space after", "application/json", "{\"A\":1}\n \t", ""},
		{"no content type", "", `{}`, "malformed Content-Type header (): mime: no media type"},
		{"other content type", "text/plain", `{}`, "unsupported Content-Type header (text/plain): must be 'application/json'"},
		{"only white space", "application/json", "  ", "invalid JSON: got EOF while reading request body"},
		{"torn", "application/json", `{"A":`, "invalid JSON: unexpected EOF"},
		{"not JSON", "application/json", `A`, "invalid JSON: invalid character 'A' looking for beginning of value"},
		{"other type", "application/json", `{"A":"x"}`, "invalid JSON: json: cannot unmarshal string into Go struct field .A of type int"},
		{"two values", "application/json", `{"A":1}{"A":2}`, "unexpected content after JSON"},
		{"bracket after", "application/json", `{"A":1}}`, "unexpected content after JSON"},
		{"too large by its length", "application/json", `"` + strings.Repeat("x", httputil.MaxJSON) + `"`, "invalid JSON: http: request body too large"},
	} {
		var out struct{ A int }
		err := httputil.ReadJSON(request(row.kind, row.body), &out)
		got := ""
		if err != nil {
			got = err.Error()
			if !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s: class of %v", row.why, err)
			}
		}
		if got != row.want {
			t.Errorf("%s: %q, want %q", row.why, got, row.want)
		}
	}
}

func TestTooLargeWithoutLength(t *testing.T) {
	for why, body := range map[string]string{
		"one value":         `"` + strings.Repeat("x", httputil.MaxJSON) + `"`,
		"white space after": `{}` + strings.Repeat(" ", httputil.MaxJSON),
	} {
		r := request("application/json", body)
		r.ContentLength = -1
		var out any
		if err := httputil.ReadJSON(r, &out); err == nil || err.Error() != "invalid JSON: http: request body too large" {
			t.Errorf("%s: %v", why, err)
		}
	}
}

func FuzzReadJSON(f *testing.F) {
	for _, s := range []string{`{"Cmd":["sh"],"HostConfig":{"Mounts":[]}}`, `{}{}`, `null`, `[[[[`, "\"\xff\""} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(b))
		r.Header.Set("Content-Type", "application/json")
		var out map[string]any
		err := httputil.ReadJSON(r, &out)
		if err == nil && len(b) > 0 && !json.Valid(b) {
			t.Errorf("took %q", b)
		}
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("class of %v", err)
		}
	})
}

func form(t *testing.T, query string) *http.Request {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/?"+query, nil)
	if err := httputil.ParseForm(r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestBool(t *testing.T) {
	for v, want := range map[string]bool{
		"": false, "0": false, "no": false, "false": false, "none": false, "NONE": false, " False ": false,
		"1": true, "yes": true, "true": true, "one": true, "100": true,
	} {
		r := form(t, "k="+url.QueryEscape(v))
		if httputil.Bool(r, "k") != want || httputil.BoolOr(r, "k", !want) != want {
			t.Errorf("%q: %v", v, !want)
		}
	}
	if r := form(t, ""); httputil.Bool(r, "k") || !httputil.BoolOr(r, "k", true) {
		t.Error("absent")
	}
}

func TestParseForm(t *testing.T) {
	r := httptest.NewRequest(http.MethodPost, "/?a=1", nil)
	r.Header.Set("Content-Type", "nonsense/;;")
	if err := httputil.ParseForm(r); err != nil || r.Form.Get("a") != "1" {
		t.Errorf("bad content type: %v", err)
	}
	r = httptest.NewRequest(http.MethodPost, "/", nil)
	r.URL.RawQuery = "%zz"
	if err := httputil.ParseForm(r); !errdefs.IsInvalidArgument(err) {
		t.Errorf("bad query: %v", err)
	}
}

func TestSize(t *testing.T) {
	for q, want := range map[string]string{
		"h=1&w=2":          "",
		"h=4294967295&w=0": "",
		"w=2":              `invalid resize height "": invalid syntax`,
		"h=1&w=+2":         `invalid resize width " 2": invalid syntax`,
		"h=1&w=%2B2":       `invalid resize width "+2": invalid syntax`,
		"h=-1&w=2":         `invalid resize height "-1": value out of range`,
		"h=-x&w=2":         `invalid resize height "-x": invalid syntax`,
		"h=4294967296&w=2": `invalid resize height "4294967296": value out of range`,
		"h=1&w=two":        `invalid resize width "two": invalid syntax`,
	} {
		_, _, err := httputil.Size(form(t, q))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", q, got, want)
		}
	}
}

func FuzzFilters(f *testing.F) {
	for _, s := range []string{`{"label":["a=b"]}`, `{"label":{"a=b":true}}`, `null`, `{}`, `{"a":null}`, `[]`, `{"a":{"b":false}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r := &http.Request{Form: url.Values{"filters": {s}}}
		args, err := httputil.Filters(r)
		if err != nil && !errdefs.IsInvalidArgument(err) {
			t.Errorf("class of %v", err)
		}
		args.Add("all", "true") // what is returned can be added to
	})
}

func TestRepoTag(t *testing.T) {
	const digest = "sha256:9d5226e6ce3fb6aee2822206a5ef85f38c303d2b37bfc894b419fca2c0501269"
	for _, row := range []struct{ repo, tag, want, err string }{
		{"shop", "", "docker.io/library/shop:latest", ""},
		{"shop", "1", "docker.io/library/shop:1", ""},
		{"reg.lan:5000/shop:2", "", "reg.lan:5000/shop:2", ""},
		{"", "1", "", ""},
		{"SHOP", "", "", "invalid reference format: repository name (library/SHOP) must be lowercase"},
		{"shop", "a b", "", "invalid tag format"},
		{"shop@" + digest, "", "", "cannot import digest reference"},
	} {
		ref, err := httputil.RepoTag(row.repo, row.tag)
		switch {
		case row.err != "":
			if err == nil || err.Error() != row.err || !errdefs.IsInvalidArgument(err) {
				t.Errorf("%q %q: %v", row.repo, row.tag, err)
			}
		case err != nil || ref == nil != (row.want == "") || ref != nil && ref.String() != row.want:
			t.Errorf("%q %q: %v %v", row.repo, row.tag, ref, err)
		}
	}
}

func TestProgress(t *testing.T) {
	w := httptest.NewRecorder()
	p := httputil.NewProgressStream(w, httptest.NewRequest(http.MethodPost, "/", nil))
	if err := p.Finish(errdefs.NotFound("nope")); !errdefs.IsNotFound(err) || w.Body.Len() > 0 {
		t.Errorf("before the first object: %v", err)
	}
	_ = p.Emit(jsonmessage.JSONMessage{Status: "Downloading", ID: "a", Progress: &jsonmessage.JSONProgress{Current: 1, Total: 2}})
	if !w.Flushed {
		t.Error("not flushed")
	}
	if err := p.Finish(errors.New("torn")); err != nil {
		t.Error(err)
	}
	lines := strings.Split(w.Body.String(), "\r\n")
	if len(lines) != 3 || lines[1] != `{"errorDetail":{"message":"torn"},"error":"torn"}` {
		t.Errorf("%q", lines)
	}
	if !strings.HasPrefix(lines[0], `{"status":"Downloading","progressDetail":{"current":1,"total":2},"progress":"[`) {
		t.Errorf("%q", lines[0])
	}
}

// TestProgressLeavesConnection: what a handler has not read of the body costs the client
// neither the answer nor the connection.
func TestProgressLeavesConnection(t *testing.T) {
	var said, conns atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p := httputil.NewProgressStream(w, r)
		io.CopyN(io.Discard, r.Body, 10)
		p.Emit(jsonmessage.JSONMessage{Status: "x"})
		var err error
		if r.URL.Path == "/fails" {
			err = errors.New("no")
		}
		p.Finish(err)
	}))
	s.Config.ErrorLog = log.New(writerFunc(func(line []byte) { said.Add(1); t.Logf("%.200s", line) }), "", 0)
	s.Config.ConnState = func(_ net.Conn, st http.ConnState) {
		if st == http.StateNew {
			conns.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	for _, size := range []int{0, 10, 11, 100_000, 900_000} {
		for _, path := range []string{"/", "/fails"} {
			body := io.MultiReader(strings.NewReader(strings.Repeat("x", size))) // of no known length
			resp, err := s.Client().Post(s.URL+path, "", body)
			if err != nil {
				t.Fatal(err)
			}
			raw, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !strings.HasPrefix(string(raw), `{"status":"x"}`) {
				t.Errorf("%d: %q, %v", size, raw, err)
			}
		}
	}
	if said.Load() != 0 || conns.Load() != 1 {
		t.Errorf("%d lines in the log, %d connections", said.Load(), conns.Load())
	}
}

type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

type broken struct{ *httptest.ResponseRecorder }

func (broken) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestProgressTellsThatTheClientHasGone(t *testing.T) {
	p := httputil.NewProgressStream(broken{httptest.NewRecorder()}, httptest.NewRequest(http.MethodPost, "/", nil))
	for range 2 {
		if err := p.Emit(jsonmessage.JSONMessage{Status: "x"}); !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	}
}

func TestWriteEncoded(t *testing.T) {
	for accept, want := range map[string]string{
		"":                              "",
		"identity":                      "",
		"gzip":                          "gzip",
		"deflate":                       "deflate",
		"deflate, gzip":                 "gzip",
		"deflate;q=1.0, gzip;q=0.5":     "deflate",
		"gzip;q=0":                      "",
		"*":                             "gzip",
		"br, zstd":                      "",
		"identity;q=1, gzip;q=0.1":      "",
		"gzip;q=nonsense, deflate;q=.1": "deflate",
	} {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Accept-Encoding", accept)
		w := httptest.NewRecorder()
		write := func(w io.Writer) error {
			_, err := io.WriteString(w, "a tar")
			return err
		}
		if err := httputil.WriteEncoded(w, r, write); err != nil {
			t.Error(err)
		}
		if got := w.Header().Get("Content-Encoding"); got != want {
			t.Errorf("%q: %q, want %q", accept, got, want)
			continue
		}
		var body io.Reader = w.Body
		switch want {
		case "gzip":
			body, _ = gzip.NewReader(w.Body)
		case "deflate":
			body = flate.NewReader(w.Body)
		}
		if b, err := io.ReadAll(body); string(b) != "a tar" || err != nil {
			t.Errorf("%q: %q %v", accept, b, err)
		}
	}
}
