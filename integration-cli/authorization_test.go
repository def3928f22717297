package integrationcli

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gantry/internal/testutil/engine"
)

// pluginSocket in the environment makes TestAuthorizationPlugin the plugin itself.
const pluginSocket = "GANTRY_TEST_PLUGIN"

// rules are what the plugin goes by; it reads them anew for each question.
type rules struct {
	Deny       string `json:",omitempty"` // requests that are denied: METHOD URI and body
	DenyAnswer string `json:",omitempty"` // answers: METHOD URI, status and body
	Fail       string `json:",omitempty"` // what it says instead of an answer to anything
}

// asked is what the plugin writes down.
type asked struct {
	Phase, User, Method, URI string
	Body, Answer             []byte
	Status                   int
	Certificates             int
}

// TestAuthorizationPlugin is no test but the plugin, a process of its own.
func TestAuthorizationPlugin(t *testing.T) {
	socket := os.Getenv(pluginSocket)
	if socket == "" {
		t.Skip("the plugin of TestAuthorization, which runs it")
	}
	os.Remove(socket)
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(socket+".log", os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Fatal(http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { answerAsPlugin(w, r, socket, log) })))
}

func answerAsPlugin(w http.ResponseWriter, r *http.Request, socket string, log io.Writer) {
	var by rules
	raw, _ := os.ReadFile(socket + ".rules")
	json.Unmarshal(raw, &by)
	if r.URL.Path == "/Plugin.Activate" {
		io.WriteString(w, `{"Implements":["authz"]}`)
		return
	}
	var q struct {
		User, RequestMethod, RequestUri string //nolint:revive // the wire's name
		RequestBody, ResponseBody       []byte
		ResponseStatusCode              int
		RequestPeerCertificates         [][]byte
	}
	json.NewDecoder(r.Body).Decode(&q)
	answer := strings.HasSuffix(r.URL.Path, "Res")
	line, _ := json.Marshal(asked{r.URL.Path[1:], q.User, q.RequestMethod, q.RequestUri, q.RequestBody, q.ResponseBody, q.ResponseStatusCode, len(q.RequestPeerCertificates)})
	log.Write(append(line, '\n'))
	if by.Fail != "" {
		http.Error(w, by.Fail, http.StatusInternalServerError)
		return
	}
	text, deny := fmt.Sprintf("%s %s %s", q.RequestMethod, q.RequestUri, q.RequestBody), by.Deny
	if answer {
		text, deny = fmt.Sprintf("%s %s %d %s", q.RequestMethod, q.RequestUri, q.ResponseStatusCode, q.ResponseBody), by.DenyAnswer
	}
	no := deny != "" && regexp.MustCompile(deny).MatchString(text)
	json.NewEncoder(w).Encode(map[string]any{"Allow": !no, "Msg": map[bool]string{true: "not today"}[no]})
}

// authz is a plugin's process.
type authz struct {
	t      *testing.T
	socket string
	cmd    *exec.Cmd
}

func startPlugin(t *testing.T, socket string) *authz {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		t.Fatal(err)
	}
	p := &authz{t: t, socket: socket}
	p.start()
	t.Cleanup(func() {
		p.stop()
		os.Remove(p.socket)
	})
	return p
}

func (p *authz) start() {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	p.cmd = exec.Command(self, "-test.run=^TestAuthorizationPlugin$")
	p.cmd.Env = append(os.Environ(), pluginSocket+"="+p.socket)
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	eventually(p.t, "the plugin listens", func() bool {
		c, err := net.Dial("unix", p.socket)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (p *authz) stop() {
	p.cmd.Process.Kill()
	p.cmd.Wait()
}

func (p *authz) rule(r rules) {
	p.t.Helper()
	raw, _ := json.Marshal(r)
	if err := os.WriteFile(p.socket+".rules", raw, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// asked are the questions of one phase about a path since the last call.
func (p *authz) asked(phase, path string) (out []asked) {
	p.t.Helper()
	raw, err := os.ReadFile(p.socket + ".log")
	if err != nil {
		p.t.Fatal(err)
	}
	for sc := bufio.NewScanner(bytes.NewReader(raw)); sc.Scan(); {
		var a asked
		if json.Unmarshal(sc.Bytes(), &a) == nil && a.Phase == phase && strings.Contains(a.URI, path) {
			out = append(out, a)
		}
	}
	os.Truncate(p.socket+".log", 0)
	return out
}

// startGuarded starts a plugin and an engine that asks it.
func startGuarded(t *testing.T, args ...string) (*engine.Engine, *authz) {
	t.Helper()
	specs := t.TempDir()
	p := startPlugin(t, filepath.Join(specs, "sock", "judge.sock"))
	p.rule(rules{})
	if err := os.MkdirAll(specs+"/plugins", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(specs+"/plugins/judge.spec", []byte("unix://"+p.socket+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(specs+"/daemon.json", []byte(`{"authorization-plugins":["judge"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	// Given twice, the last --config-file counts: its directory has the plugins' descriptions.
	return start(t, append(args, "--config-file", specs+"/daemon.json")...), p
}

func TestAuthorization(t *testing.T) {
	t.Parallel()
	e, p := startGuarded(t)
	if got := e.Must("info", "-f", "{{.Plugins.Authorization}}"); got != "[judge]" {
		t.Errorf("info shows %s", got)
	}
	denied := "authorization denied by plugin judge: not today"

	p.rule(rules{Deny: `/containers/create.*"Privileged":true`})
	if r := e.Docker("run", "--rm", "--privileged", image, "true"); !strings.Contains(r.Stderr, denied) || r.Code != 125 {
		t.Errorf("privileged: %d %s", r.Code, r.Stderr)
	}
	if got := e.Must("run", "--rm", "-i", image, "echo", "hi"); got != "hi" { // a hijacked stream
		t.Errorf("run: %q", got)
	}
	p.asked("", "")
	e.Must("run", "-d", "--name", "up", image, "sleep", "1000")
	if qs := p.asked("AuthZPlugin.AuthZReq", "/containers/create"); len(qs) != 1 || !bytes.Contains(qs[0].Body, []byte(`"Image"`)) || qs[0].Method != "POST" || qs[0].User != "" {
		t.Errorf("create was asked as %+v", qs)
	}
	if got := e.Must("exec", "up", "echo", "in"); got != "in" {
		t.Errorf("exec: %q", got)
	}
	archive := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(archive, make([]byte, 20<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	e.Must("cp", archive, "up:/f") // an upload longer than any document
	e.Must("cp", "up:/f", archive+"2")
	if fi, err := os.Stat(archive + "2"); err != nil || fi.Size() != 20<<20 {
		t.Errorf("cp: %v", err)
	}

	t.Run("answers", func(t *testing.T) {
		p.rule(rules{DenyAnswer: `GET \S*/containers/up/json 200 .*"Name":"/up"`})
		if r := e.Docker("inspect", "--type", "container", "up"); r.Code == 0 || !strings.Contains(r.Stderr, denied) || strings.Contains(r.Stdout, "sleep") {
			t.Errorf("inspect: %d %s%s", r.Code, r.Stdout, r.Stderr)
		}
		if r := e.Docker("inspect", "--type", "container", "nobody"); !strings.Contains(r.Stderr, "No such container: nobody") {
			t.Errorf("errors pass: %s", r.Stderr)
		}
		p.rule(rules{DenyAnswer: `/exec/\S*/start`})
		if r := e.Docker("exec", "up", "echo", "secret"); r.Code == 0 || strings.Contains(r.Stdout, "secret") {
			t.Errorf("exec: %d %s%s", r.Code, r.Stdout, r.Stderr)
		}
	})
	t.Run("bodies", func(t *testing.T) {
		p.rule(rules{Deny: `"Privileged":true`})
		// Behind what a plugin of dockerd would have been shown.
		long := `{"Image":"` + image + `","Labels":{"x":"` + strings.Repeat("y", 2<<20) + `"},"HostConfig":{"Privileged":true}}`
		for _, body := range []io.Reader{strings.NewReader(long), io.MultiReader(strings.NewReader(long))} {
			code, said := postTo(t, e.HTTP(), "/containers/create?name=evil", "application/json", body)
			if code != http.StatusForbidden || !strings.Contains(said, denied) {
				t.Errorf("a long body: %d %s", code, said)
			}
		}
		conn, err := net.Dial("unix", e.Socket())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "POST /v1.51/containers/create?name=evil HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", 9<<20)
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		head := make([]byte, 1024)
		n, _ := conn.Read(head)
		if got := string(head[:n]); !strings.HasPrefix(got, "HTTP/1.1 403") || !strings.Contains(got, "cannot be shown to plugins") {
			t.Errorf("too long a body: %s", got)
		}
		if r := e.Docker("inspect", "evil"); r.Code == 0 {
			t.Error("it was made")
		}
	})
	t.Run("closed", func(t *testing.T) {
		p.rule(rules{Fail: "out of order"})
		if r := e.Docker("ps"); r.Code == 0 || !strings.Contains(r.Stderr, "plugin judge failed with error: AuthZPlugin.AuthZReq: out of order") {
			t.Errorf("a plugin that fails: %d %s", r.Code, r.Stderr)
		}
		p.rule(rules{})
		e.Must("ps")
		p.stop()
		code, said := 0, ""
		if resp, err := e.HTTP().Get("http://x/containers/json"); err == nil {
			raw, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			code, said = resp.StatusCode, string(raw)
		}
		if code != 500 || !strings.Contains(said, "plugin judge failed with error: ") {
			t.Errorf("a plugin that is gone: %d %s", code, said)
		}
		p.start()
		e.Must("ps")
	})
}

func postTo(t *testing.T, c *http.Client, path, kind string, body io.Reader) (int, string) {
	t.Helper()
	resp, err := c.Post("http://gantry"+path, kind, body)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// TestAuthorizationReload: plugins come and go by reload, all or nothing, and are asked
// in their order.
func TestAuthorizationReload(t *testing.T) {
	t.Parallel()
	e := engine.Start(t)
	first, second := startPlugin(t, e.Dir+"/exec/plugins/first.sock"), startPlugin(t, e.Dir+"/exec/plugins/second/second.sock")
	for _, p := range []*authz{first, second} {
		p.rule(rules{Deny: "GET .*/volumes"})
	}
	reload := func(text, shown string) {
		t.Helper()
		if err := os.WriteFile(e.Dir+"/daemon.json", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		e.Signal("HUP")
		eventually(t, "the plugins are "+shown, func() bool { return e.Must("info", "-f", "{{.Plugins.Authorization}} {{.Labels}}") == shown })
	}
	e.Must("volume", "ls")
	reload(`{"authorization-plugins":["second","first","second"],"labels":["a=b"]}`, "[second first second] [a=b]")
	if r := e.Docker("volume", "ls"); !strings.Contains(r.Stderr, "denied by plugin second: not today") {
		t.Errorf("asked in another order: %s", r.Stderr)
	}
	second.rule(rules{})
	if r := e.Docker("volume", "ls"); !strings.Contains(r.Stderr, "denied by plugin first: not today") {
		t.Errorf("the second plugin's word counts for both: %s", r.Stderr)
	}
	if err := os.WriteFile(e.Dir+"/daemon.json", []byte(`{"authorization-plugins":["absent"],"labels":["c=d"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	e.Signal("HUP")
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(e.Log(), `failed to validate authorization plugin: plugin \"absent\" not found`) && time.Now().Before(deadline) {
		time.Sleep(100 * time.Millisecond)
	}
	if got := e.Must("info", "-f", "{{.Plugins.Authorization}} {{.Labels}}"); got != "[second first second] [a=b]" {
		t.Errorf("after a plugin that is not there: %s\n%s", got, e.Log())
	}
	reload(`{}`, "[] []")
	e.Must("volume", "ls")
}

// TestAuthorizationAbsent: an engine whose plugin is not there does not start.
func TestAuthorizationAbsent(t *testing.T) {
	t.Parallel()
	e := engine.Start(t)
	e.Terminate()
	if err := os.WriteFile(e.Dir+"/daemon.json", []byte(`{"authorization-plugins":["absent"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	err := e.TryLaunch()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || !strings.Contains(e.Log(), `failed to validate authorization plugin: plugin "absent" not found`) {
		t.Errorf("%v\n%s", err, e.Log())
	}
	os.WriteFile(e.Dir+"/daemon.json", []byte(`{}`), 0o600)
	e.Launch()
}
