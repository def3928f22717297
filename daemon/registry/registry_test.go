package registry

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/distribution/reference"
	registrytypes "github.com/docker/docker/api/types/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestHostSet(t *testing.T) {
	set, err := newHostSet([]string{"10.0.0.0/8", "Plain.Example", "host.example:5000", "fd00::/8"})
	check(t, err)
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9:5000": true, "[::1]:5000": true, "localhost:5000": true,
		"10.1.2.3:80": true, "11.1.2.3": false, "[fd00::1]": true, "plain.example:1": true,
		"host.example:5000": true, "host.example:5001": false, "256.0.0.1.invalid": false,
	} {
		if got := set.match(host); got != want {
			t.Errorf("%s: %t", host, got)
		}
	}
	for _, bad := range []string{"http://x", "x/y", ""} {
		if err := (Config{Insecure: []string{bad}}).Validate(); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestParseMirror(t *testing.T) {
	for in, ok := range map[string]bool{
		"https://mirror.example": true, "http://mirror.example:5000/": true, "mirror.example": false, "ftp://x": false,
		"https://x/path": false, "https://x?q": false, "https://u:p@x": false, "https://": false,
	} {
		if err := (Config{Mirrors: []string{in}}).Validate(); (err == nil) != ok {
			t.Errorf("%s: %v", in, err)
		}
	}
}

var (
	body = []byte(`{"schemaVersion":2}`)
	want = ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(body), Size: int64(len(body))}
)

// serve is a registry with one manifest and one blob, of the same bytes.
func serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/v2/":
	case strings.Contains(r.URL.Path, "/manifests/v1"), strings.HasSuffix(r.URL.Path, "/manifests/"+want.Digest.String()):
		w.Header().Set("Content-Type", want.MediaType)
		w.Header().Set("Docker-Content-Digest", want.Digest.String())
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		_, _ = w.Write(body)
	case strings.Contains(r.URL.Path, "/blobs/"):
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(string(body)))
	case strings.HasSuffix(r.URL.Path, "/tags/list"):
		_ = json.NewEncoder(w).Encode(map[string]any{"name": "x", "tags": []string{"v1", "v2"}})
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func repository(t testing.TB, c *Client, host string, a Auth) *Repository {
	t.Helper()
	name, err := reference.ParseNormalizedNamed(host + "/some/repo")
	check(t, err)
	r, err := c.Repository(name, a)
	check(t, err)
	return r
}

func TestPlainHTTP(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(serve))
	defer s.Close()
	r := repository(t, New(Config{}), strings.TrimPrefix(s.URL, "http://"), Auth{})
	used(t, r)
}

// used tries all that a repository can do.
func used(t *testing.T, r *Repository) {
	t.Helper()
	ctx := t.Context()
	desc, err := r.Resolve(ctx, "v1")
	check(t, err)
	if desc.Digest != want.Digest || desc.Size != want.Size || desc.MediaType != want.MediaType {
		t.Errorf("resolved %+v", desc)
	}
	if got, err := r.Manifest(ctx, desc); err != nil || string(got) != string(body) {
		t.Errorf("manifest %q, %v", got, err)
	}
	for offset, rest := range []string{0: string(body), 5: string(body[5:])} {
		if rest == "" {
			continue
		}
		rc, start, err := r.Blob(ctx, desc, int64(offset))
		check(t, err)
		got, err := io.ReadAll(rc)
		rc.Close()
		if err != nil || start != int64(offset) || string(got) != rest {
			t.Errorf("blob from %d: %q from %d, %v", offset, got, start, err)
		}
	}
	if tags, err := r.Tags(ctx); err != nil || strings.Join(tags, " ") != "v1 v2" {
		t.Errorf("tags %v, %v", tags, err)
	}
	if _, err := r.Resolve(ctx, "nope"); !errdefs.IsNotFound(err) || err.Error() != "not found" {
		t.Errorf("missing tag: %v", err)
	}
}

func TestNoRanges(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(body) }))
	defer s.Close()
	r := repository(t, New(Config{}), strings.TrimPrefix(s.URL, "http://"), Auth{})
	rc, start, err := r.Blob(t.Context(), want, 3)
	check(t, err)
	rc.Close()
	if start != 0 {
		t.Errorf("starts at %d", start)
	}
}

// TestManifestBounds: neither a promise nor an answer may be too long, and the content
// must be what was promised.
func TestManifestBounds(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", want.MediaType)
		_, _ = w.Write(append([]byte(" "), body[1:]...))
	}))
	defer s.Close()
	r := repository(t, New(Config{}), strings.TrimPrefix(s.URL, "http://"), Auth{})
	long := want
	long.Size = MaxManifest + 1
	if _, err := r.Manifest(t.Context(), long); !errors.Is(err, errdefs.ErrResourceExhausted) {
		t.Errorf("long manifest: %v", err)
	}
	if _, err := r.Manifest(t.Context(), want); err == nil {
		t.Error("other content was taken")
	}
}

// TestToken asks a token server with the credentials given, and keeps them from others.
func TestToken(t *testing.T) {
	var asked atomic.Int32
	var s *httptest.Server
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			asked.Add(1)
			user, password, _ := r.BasicAuth()
			if user != "me" || password != "secret" {
				w.WriteHeader(http.StatusUnauthorized)
				_, _ = io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
				return
			}
			if !strings.Contains(r.URL.Query().Get("scope"), "repository:some/repo:pull") {
				t.Errorf("scope %q", r.URL.Query().Get("scope"))
			}
			_, _ = io.WriteString(w, `{"token":"good"}`)
			return
		}
		if r.Header.Get("Authorization") != "Bearer good" {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf("Bearer realm=%q,service=%q", s.URL+"/token", "test"))
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.Header.Get("X-Meta-Test") != "yes" || !strings.HasPrefix(r.UserAgent(), "gantry") {
			t.Errorf("headers %v", r.Header)
		}
		serve(w, r)
	}))
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "http://")
	c := New(Config{})
	used(t, repository(t, c, host, Auth{
		Credentials: &registrytypes.AuthConfig{Username: "me", Password: "secret"}, Headers: map[string][]string{"X-Meta-Test": {"yes"}},
	}))
	if asked.Load() != 1 {
		t.Errorf("asked for %d tokens", asked.Load())
	}
	for _, cred := range []*registrytypes.AuthConfig{nil, {Username: "me", Password: "wrong"}} {
		_, err := repository(t, c, host, Auth{Credentials: cred}).Resolve(t.Context(), "v1")
		if !errors.Is(err, ErrAuthorization) || NoCredentials(err) {
			t.Errorf("with %+v: %v", cred, err)
		}
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		status int
		said   string
		class  error
		text   string
		again  bool
	}{
		{403, `{"errors":[{"code":"DENIED","message":"requested access to the resource is denied"}]}`, errdefs.ErrPermissionDenied, "error from registry: requested access to the resource is denied", false},
		{429, `{"errors":[{"code":"TOOMANYREQUESTS","message":"slow down","detail":"wait"}]}`, errdefs.ErrResourceExhausted, "error from registry: slow down - wait", true},
		{404, ``, errdefs.ErrNotFound, "not found", false},
		{503, `{}`, errdefs.ErrUnavailable, "", true},
		{500, `<html>`, nil, "", true},
		{500, `{"errors":[{"code":"SOME_CODE"}]}`, nil, "error from registry: some code", true},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			_, _ = io.WriteString(w, c.said)
		}))
		_, _, err := repository(t, New(Config{}), strings.TrimPrefix(s.URL, "http://"), Auth{}).Blob(t.Context(), want, 0)
		s.Close()
		if errdefs.Class(err) != c.class || c.text != "" && err.Error() != c.text || Temporary(err) != c.again {
			t.Errorf("%d: %v, class %v, again %t", c.status, err, errdefs.Class(err), Temporary(err))
		}
	}
	if Temporary(context.Canceled) || !Temporary(io.ErrUnexpectedEOF) {
		t.Error("what is worth another try")
	}
}

func TestMirrors(t *testing.T) {
	var mirrored, bad atomic.Int32
	good := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("a mirror saw credentials")
		}
		mirrored.Add(1)
		serve(w, r)
	}))
	defer good.Close()
	broken := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		bad.Add(1)
		w.WriteHeader(http.StatusBadGateway)
	}))
	defer broken.Close()
	c := New(Config{Mirrors: []string{broken.URL, good.URL}})
	hub, err := reference.ParseNormalizedNamed("some/repo")
	check(t, err)
	r, err := c.Repository(hub, Auth{Credentials: &registrytypes.AuthConfig{Username: "me", Password: "secret"}})
	check(t, err)
	if _, err := r.Resolve(t.Context(), "v1"); err != nil || bad.Load() != 1 || mirrored.Load() != 1 {
		t.Errorf("%v; asked broken %d, good %d times", err, bad.Load(), mirrored.Load())
	}
	if r.Host() != "registry-1.docker.io" {
		t.Errorf("own host %s", r.Host())
	}
	if other := repository(t, c, "quay.example", Auth{}); len(other.endpoints) != 1 {
		t.Error("another registry has mirrors")
	}
}

// TestCertificates needs an authority and a client certificate from the certs directory.
func TestCertificates(t *testing.T) {
	ca, own := newCertificate(t), newCertificate(t)
	s := httptest.NewUnstartedServer(http.HandlerFunc(serve))
	pool := x509.NewCertPool()
	pool.AddCert(own.Leaf)
	s.TLS = &tls.Config{Certificates: []tls.Certificate{ca}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool}
	s.StartTLS()
	defer s.Close()
	host := strings.TrimPrefix(s.URL, "https://")
	dir := t.TempDir()
	certs := filepath.Join(dir, host)
	check(t, os.Mkdir(certs, 0o755))
	writePEM(t, filepath.Join(certs, "ca.crt"), "CERTIFICATE", ca.Certificate[0])
	writePEM(t, filepath.Join(certs, "me.cert"), "CERTIFICATE", own.Certificate[0])

	c := New(Config{CertsDirs: []string{filepath.Join(dir, "missing"), dir}})
	c.now.Load().insecure = &hostSet{names: map[string]bool{}} // a loopback address would not be checked
	name, err := reference.ParseNormalizedNamed(host + "/some/repo")
	check(t, err)
	if _, err := c.Repository(name, Auth{}); !errdefs.IsInvalidArgument(err) || !strings.HasPrefix(err.Error(), "missing key me.key for client certificate me.cert") {
		t.Errorf("without a key: %v", err)
	}
	key, err := x509.MarshalECPrivateKey(own.PrivateKey.(*ecdsa.PrivateKey))
	check(t, err)
	writePEM(t, filepath.Join(certs, "me.key"), "EC PRIVATE KEY", key)
	used(t, repository(t, c, host, Auth{}))

	plain := New(Config{})
	plain.now.Load().insecure = &hostSet{names: map[string]bool{}}
	if _, err := repository(t, plain, host, Auth{}).Resolve(t.Context(), "v1"); err == nil {
		t.Error("a stranger's certificate was taken")
	}
}

func newCertificate(t testing.TB) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	check(t, err)
	leaf, err := x509.ParseCertificate(der)
	check(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	check(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
}
