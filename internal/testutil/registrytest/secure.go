package registrytest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TLS runs a registry on r's storage that speaks TLS with the certificates of dir
// (ca.pem, cert.pem, key.pem; see sink.Certificates). With mutual it wants one of its
// clients too.
func (r *Registry) TLS(t testing.TB, dir string, mutual bool) *Registry {
	t.Helper()
	more := fmt.Sprintf("  tls:\n    certificate: %s/cert.pem\n    key: %s/key.pem\n", dir, dir)
	if mutual {
		more += fmt.Sprintf("    clientcas:\n      - %s/ca.pem\n", dir)
	}
	return r.Beside(t, more)
}

// Private runs a registry on r's storage that asks for User and Password.
func (r *Registry) Private(t testing.TB) *Registry {
	t.Helper()
	path := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(path, []byte(htpasswd), 0o600); err != nil {
		t.Fatal(err)
	}
	return r.Beside(t, "auth:\n  htpasswd:\n    realm: test\n    path: "+path+"\n")
}

// Tokens is a token server whose tokens a registry trusts.
type Tokens struct {
	t     testing.TB
	key   *ecdsa.PrivateKey
	chain []string // base64 of DER

	mu     sync.Mutex
	issued []string // guarded by mu: scopes
}

// Refresh is a long-lived token that the server takes for User's word.
const Refresh = "a-token-that-lives-long"

const tokenService, tokenIssuer = "registry", "tokens"

// Tokens runs a registry on r's storage that wants tokens of the server returned, which
// gives them to User and Password, and to Refresh. dir has the certificates that sign.
func (r *Registry) Tokens(t testing.TB, dir string) (*Registry, *Tokens) {
	t.Helper()
	tokens := &Tokens{t: t}
	tokens.load(dir)
	server := httptest.NewServer(tokens)
	t.Cleanup(server.Close)
	return r.Beside(t, fmt.Sprintf("auth:\n  token:\n    realm: %s/token\n    service: %s\n    issuer: %s\n    rootcertbundle: %s/ca.pem\n",
		server.URL, tokenService, tokenIssuer, dir)), tokens
}

func (k *Tokens) load(dir string) {
	k.t.Helper()
	block := func(name string) []byte {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			k.t.Fatal(err)
		}
		b, _ := pem.Decode(raw)
		return b.Bytes
	}
	key, err := x509.ParsePKCS8PrivateKey(block("key.pem"))
	if err != nil {
		k.t.Fatal(err)
	}
	k.key = key.(*ecdsa.PrivateKey)
	k.chain = []string{base64.StdEncoding.EncodeToString(block("cert.pem"))}
}

// Scopes are those that tokens were given for.
func (k *Tokens) Scopes() []string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]string{}, k.issued...)
}

// ServeHTTP implements http.Handler: OAuth by POST, basic authentication by GET.
func (k *Tokens) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm()
	user, password, _ := r.BasicAuth()
	if r.Method == http.MethodPost {
		user, password = r.PostForm.Get("username"), r.PostForm.Get("password")
	}
	if (user != User || password != Password) && r.PostForm.Get("refresh_token") != Refresh {
		http.Error(w, `{"errors":[{"code":"UNAUTHORIZED"}]}`, http.StatusUnauthorized)
		return
	}
	scopes := strings.Fields(strings.Join(r.Form["scope"], " "))
	token, err := k.sign(scopes)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	k.mu.Lock()
	k.issued = append(k.issued, scopes...)
	k.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "access_token": token, "expires_in": 300})
}

// sign makes a JSON web token (RFC 7519, ES256) as distribution's token specification
// wants it.
func (k *Tokens) sign(scopes []string) (string, error) {
	type access struct {
		Type    string   `json:"type"`
		Name    string   `json:"name"`
		Actions []string `json:"actions"`
	}
	list := []access{}
	for _, s := range scopes {
		kind, rest, _ := strings.Cut(s, ":")
		at := strings.LastIndex(rest, ":")
		if at < 0 {
			continue
		}
		list = append(list, access{kind, rest[:at], strings.Split(rest[at+1:], ",")})
	}
	now := time.Now()
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			k.t.Error(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	text := part(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": k.chain}) + "." + part(map[string]any{
		"iss": tokenIssuer, "sub": User, "aud": tokenService, "jti": rand.Text(), "access": list,
		"nbf": now.Add(-time.Minute).Unix(), "iat": now.Unix(), "exp": now.Add(5 * time.Minute).Unix(),
	})
	sum := sha256.Sum256([]byte(text))
	r, s, err := ecdsa.Sign(rand.Reader, k.key, sum[:])
	if err != nil {
		return "", err
	}
	raw := make([]byte, 64)
	r.FillBytes(raw[:32])
	s.FillBytes(raw[32:])
	return text + "." + base64.RawURLEncoding.EncodeToString(raw), nil
}
