package integrationcli

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
	"gantry/internal/testutil/registrytest"
)

// distribution asks the engine what a registry has under a name.
func distribution(t *testing.T, e *engine.Engine, ref, user, password string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, "http://x/v1.51/distribution/"+ref+"/json", nil)
	if err != nil {
		t.Fatal(err)
	}
	if user != "" {
		auth, _ := json.Marshal(map[string]string{"username": user, "password": password})
		req.Header.Set("X-Registry-Auth", base64.URLEncoding.EncodeToString(auth))
	}
	resp, err := e.HTTP().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(raw))
}

// auth is POST /auth.
func auth(t *testing.T, e *engine.Engine, addr, user, password string) (int, string) {
	t.Helper()
	body, _ := json.Marshal(map[string]string{"username": user, "password": password, "serveraddress": addr})
	code, said := postTo(t, e.HTTP(), "/v1.51/auth", "application/json", bytes.NewReader(body))
	return code, strings.TrimSpace(said)
}

func TestDistribution(t *testing.T) {
	e := engine.Start(t)
	open, private := registrytest.Start(t), registrytest.StartPrivate(t)
	amd := open.Push("some/app", "1", registrytest.Image{Architecture: "amd64"})
	arm := open.Push("some/app", "arm", registrytest.Image{Architecture: "arm64"})
	index := open.Index("some/app", "many", amd, arm)
	secret := private.Push("some/app", "latest", registrytest.Image{Architecture: "amd64"})
	const oci = "application/vnd.oci.image."
	one := func(desc any, size int64, mediaType, platforms string) string {
		return fmt.Sprintf(`{"Descriptor":{"mediaType":"%s","digest":"%s","size":%d},"Platforms":[%s]}`, oci+mediaType, desc, size, platforms)
	}
	const amd64, arm64 = `{"architecture":"amd64","os":"linux"}`, `{"architecture":"arm64","os":"linux"}`
	for _, tc := range []struct {
		ref, user, password string
		code                int
		want                string
	}{
		{open.Host + "/some/app:1", "", "", 200, one(amd.Digest, amd.Size, "manifest.v1+json", amd64)},
		{open.Host + "/some/app@" + arm.Digest.String(), "", "", 200, one(arm.Digest, arm.Size, "manifest.v1+json", arm64)},
		{open.Host + "/some/app:many", "", "", 200, one(index.Digest, index.Size, "index.v1+json", amd64+","+arm64)},
		{private.Host + "/some/app", registrytest.User, registrytest.Password, 200, one(secret.Digest, secret.Size, "manifest.v1+json", amd64)},
		{open.Host + "/some/app:absent", "", "", 404, `{"message":"manifest unknown: manifest unknown"}`},
		{open.Host + "/nothing/here", "", "", 404, `{"message":"manifest unknown: manifest unknown"}`},
		{private.Host + "/some/app", registrytest.User, "wrong", 401, `{"message":"unauthorized: authentication required"}`},
		{private.Host + "/some/app", "", "", 401, `{"message":"no basic auth credentials"}`},
		{open.Host + "/Some/app", "", "", 400, `{"message":"invalid reference format: repository name (Some/app) must be lowercase"}`},
		{strings.Repeat("a", 64), "", "", 400, `{"message":"no manifest found for full image ID"}`},
	} {
		if code, said := distribution(t, e, tc.ref, tc.user, tc.password); code != tc.code || said != tc.want {
			t.Errorf("%s as %q: %d %s, want %d %s", tc.ref, tc.user, code, said, tc.code, tc.want)
		}
	}
	t.Run("auth", func(t *testing.T) {
		for _, tc := range []struct {
			addr, user, password string
			code                 int
			want                 string
		}{
			{private.Host, registrytest.User, registrytest.Password, 200, `{"IdentityToken":"","Status":"Login Succeeded"}`},
			{"http://" + private.Host, registrytest.User, registrytest.Password, 200, `{"IdentityToken":"","Status":"Login Succeeded"}`},
			{private.Host, registrytest.User, "wrong", 401, `{"message":"login attempt to http://` + private.Host + `/v2/ failed with status: 401 Unauthorized"}`},
			{open.Host, "any", "body", 200, `{"IdentityToken":"","Status":"Login Succeeded"}`},
		} {
			if code, said := auth(t, e, tc.addr, tc.user, tc.password); code != tc.code || said != tc.want {
				t.Errorf("%s as %s: %d %s, want %d %s", tc.addr, tc.user, code, said, tc.code, tc.want)
			}
		}
	})
}

// tokens is a token server for Debian's docker-registry: it takes "me" with "secret", and
// the identity token that it gave.
type tokens struct {
	key  *ecdsa.PrivateKey
	cert []byte // DER
}

func (s *tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	r.ParseForm()
	user, password, _ := r.BasicAuth()
	if !(user == "me" && password == "secret" || r.FormValue("refresh_token") == "identity") {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusUnauthorized)
		io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}`)
		return
	}
	var access []map[string]any
	for _, scope := range r.Form["scope"] {
		if p := strings.Split(scope, ":"); len(p) == 3 {
			access = append(access, map[string]any{"type": p[0], "name": p[1], "actions": strings.Split(p[2], ",")})
		}
	}
	token := s.sign(map[string]any{
		"iss": "test", "sub": "me", "aud": "registry", "exp": time.Now().Add(time.Hour).Unix(), "nbf": time.Now().Add(-time.Hour).Unix(), "access": access,
	})
	out := map[string]any{"token": token, "access_token": token}
	if r.FormValue("offline_token") == "true" {
		out["refresh_token"] = "identity"
	}
	json.NewEncoder(w).Encode(out)
}

func (s *tokens) sign(claims map[string]any) string {
	b64 := base64.RawURLEncoding.EncodeToString
	head, _ := json.Marshal(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(s.cert)}})
	body, _ := json.Marshal(claims)
	text := b64(head) + "." + b64(body)
	sum := sha256.Sum256([]byte(text))
	r, v, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		return ""
	}
	return text + "." + b64(append(r.FillBytes(make([]byte, 32)), v.FillBytes(make([]byte, 32))...))
}

// tokenRegistry runs docker-registry before a token server and returns its address.
func tokenRegistry(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	ca := newAuthority(t, dir)
	s := httptest.NewServer(&tokens{ca.key, ca.cert.Raw})
	t.Cleanup(s.Close)
	addr := freePort(t)
	config := fmt.Sprintf("version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: %s\nhttp:\n  addr: %s\nauth:\n  token:\n    realm: %s/token\n    service: registry\n    issuer: test\n    rootcertbundle: %s\n",
		dir+"/data", addr, s.URL, dir+"/ca.pem")
	path := filepath.Join(dir, "config.yml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(need.Command(t, "docker-registry"), "serve", path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Signal(syscall.SIGTERM); cmd.Wait() })
	eventually(t, "the registry answers", func() bool {
		r, err := http.Get("http://" + addr + "/v2/")
		if err == nil {
			r.Body.Close()
		}
		return err == nil
	})
	return addr
}

// TestTokenLogin: a password becomes an identity token, with which clients push, pull
// and ask from then on.
func TestTokenLogin(t *testing.T) {
	e := start(t)
	addr := tokenRegistry(t)
	ref := addr + "/private/app:1"
	e.Must("tag", image, ref)
	if code, said := auth(t, e, addr, "me", "wrong"); code != 401 || said != `{"message":"Get \"http://`+addr+`/v2/\": unauthorized: incorrect username or password"}` {
		t.Errorf("a wrong password: %d %s", code, said)
	}
	if code, said := auth(t, e, addr, "me", "secret"); code != 200 || said != `{"IdentityToken":"identity","Status":"Login Succeeded"}` {
		t.Errorf("the right one: %d %s", code, said)
	}
	if got := e.Must("login", "-u", "me", "-p", "secret", addr); got != "Login Succeeded" {
		t.Errorf("login: %s", got)
	}
	stored, err := os.ReadFile(e.Dir + "/client/config.json")
	if err != nil || !bytes.Contains(stored, []byte(`"identitytoken": "identity"`)) {
		t.Errorf("the client keeps %s, %v", stored, err)
	}
	e.Must("push", ref)
	e.Must("rmi", ref)
	e.Must("pull", ref)
	e.Must("rmi", ref)
	if code, said := distribution(t, e, ref, "me", "secret"); code != 200 {
		t.Errorf("distribution: %d %s", code, said)
	}
	if code, said := distribution(t, e, ref, "", ""); code != 401 {
		t.Errorf("distribution without credentials: %d %s", code, said)
	}
}
