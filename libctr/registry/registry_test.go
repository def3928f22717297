package registry_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/internal/testutil/registrytest"
	"gantry/internal/testutil/sink"
	"gantry/libctr/content"
	"gantry/libctr/core/manifest"
	"gantry/libctr/core/transfer"
	"gantry/libctr/registry"
)

// layer is a blob that takes more than one read.
func layer(t *testing.T) []byte {
	t.Helper()
	raw := make([]byte, 200<<10)
	_, _ = rand.Read(raw)
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(raw)
	_ = z.Close()
	return b.Bytes()
}

func store(t *testing.T) *content.Store {
	t.Helper()
	s, err := content.New(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// filled is an open registry with the image some/app:1.
func filled(t *testing.T) (*registrytest.Registry, ocispec.Descriptor) {
	t.Helper()
	r := registrytest.Start(t)
	return r, r.Push("some/app", "1", registrytest.Image{Architecture: "amd64", Layers: [][]byte{layer(t), layer(t)}})
}

// account answers with one secret, and counts.
type account struct {
	transfer.Secret
	asked int
}

func (a *account) Get(context.Context, string, string) (transfer.Secret, error) {
	a.asked++
	return a.Secret, nil
}

// pull resolves and fetches all of an image.
func pull(t *testing.T, c *registry.Client, r *transfer.Registry, into *content.Store) (ocispec.Descriptor, error) {
	t.Helper()
	remote, err := c.Open(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	defer remote.Close()
	name, target, err := remote.Resolve(t.Context())
	if err != nil {
		return target, err
	}
	f, err := remote.Fetcher(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return target, fetchTree(t.Context(), f, into, target)
}

func fetchTree(ctx context.Context, f *registry.Fetcher, into *content.Store, d ocispec.Descriptor) error {
	if err := f.Fetch(ctx, into, d, nil, nil); err != nil {
		return err
	}
	children, err := manifest.ReadChildren(ctx, into, d)
	if err != nil {
		return err
	}
	for _, c := range children {
		if err := fetchTree(ctx, f, into, c); err != nil {
			return err
		}
	}
	return nil
}

// hosts writes a hosts.toml for a host.
func hosts(t *testing.T, host, text string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, host), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, host, "hosts.toml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestAccess reaches the same storage in each way that there is, and is refused in others.
func TestAccess(t *testing.T) {
	open, want := filled(t)
	_, certs := sink.Certificates(t)
	secure, mutual := open.TLS(t, certs, false), open.TLS(t, certs, true)
	private := open.Private(t)
	tokens, issuer := open.Tokens(t, certs)
	secret := transfer.Secret{Username: registrytest.User, Secret: registrytest.Password}
	toml := func(r *registrytest.Registry, scheme, more string) string {
		return hosts(t, r.Host, fmt.Sprintf("server = \"%s://%s\"\n[host.\"%s://%s\"]\n%s\n", scheme, r.Host, scheme, r.Host, more))
	}
	const nobody = "127.0.0.1:1" // refuses connections
	for name, tc := range map[string]struct {
		host    string
		dir     string
		scheme  string
		secret  *transfer.Secret
		refused string // in the error
		asked   bool
	}{
		"plain":                            {host: open.Host},
		"plain, named":                     {host: open.Host, scheme: "http"},
		"no TLS there":                     {host: open.Host, scheme: "https", refused: "HTTPS"},
		"of this host, unverified":         {host: secure.Host},
		"own authority":                    {host: secure.Host, dir: toml(secure, "https", fmt.Sprintf("ca = %q", certs+"/ca.pem"))},
		"authority not known":              {host: secure.Host, dir: toml(secure, "https", "skip_verify = false"), refused: "certificate"},
		"skip_verify":                      {host: secure.Host, dir: toml(secure, "https", "skip_verify = true")},
		"own certificate":                  {host: mutual.Host, dir: toml(mutual, "https", fmt.Sprintf("ca = %q\nclient = [[%q, %q]]", certs+"/ca.pem", certs+"/cert.pem", certs+"/key.pem"))},
		"own certificate lacks":            {host: mutual.Host, dir: toml(mutual, "https", fmt.Sprintf("ca = %q", certs+"/ca.pem")), refused: "certificate"},
		"basic":                            {host: private.Host, secret: &secret, asked: true},
		"basic, a ready header":            {host: private.Host, secret: &transfer.Secret{Header: "Basic dGVzdGVyOnNlY3JldA=="}, asked: true},
		"basic, a wrong header":            {host: private.Host, secret: &transfer.Secret{Header: "Basic eDp5"}, refused: "authorization failed", asked: true},
		"basic, wrong":                     {host: private.Host, secret: &transfer.Secret{Username: "x", Secret: "y"}, refused: "401", asked: true},
		"basic, nobody asked":              {host: private.Host, refused: "401"},
		"token":                            {host: tokens.Host, secret: &secret, asked: true},
		"token, refreshed":                 {host: tokens.Host, secret: &transfer.Secret{Secret: registrytest.Refresh}, asked: true},
		"token, wrong":                     {host: tokens.Host, secret: &transfer.Secret{Username: "x", Secret: "y"}, refused: "401", asked: true},
		"mirror":                           {host: "example.invalid", dir: hosts(t, "example.invalid", fmt.Sprintf("server = \"https://example.invalid\"\n[host.\"http://%s\"]\ncapabilities = [\"pull\", \"resolve\"]\n", open.Host))},
		"mirror that is down, then one":    {host: "example.invalid", dir: hosts(t, "example.invalid", fmt.Sprintf("[host.\"http://%s\"]\n[host.\"http://%s\"]\n", nobody, open.Host))},
		"mirror, whole path":               {host: "example.invalid", dir: hosts(t, "example.invalid", fmt.Sprintf("[host.\"http://%s/v2\"]\noverride_path = true\n", open.Host))},
		"mirror, not for resolving":        {host: open.Host, dir: hosts(t, open.Host, fmt.Sprintf("server = \"http://%s\"\n[host.\"http://%s\"]\ncapabilities = [\"pull\"]\n", open.Host, nobody))},
		"mirror with a header for its own": {host: "example.invalid", dir: hosts(t, "example.invalid", fmt.Sprintf("[host.\"http://%s\"]\n[host.\"http://%s\".header]\nAuthorization = \"Basic dGVzdGVyOnNlY3JldA==\"\n", private.Host, private.Host))},
		"of all hosts":                     {host: "example.invalid", dir: hosts(t, "_default", fmt.Sprintf("[host.\"http://%s\"]\n", open.Host))},
		"Docker's layout of certificates":  {host: secure.Host, dir: dockerCerts(t, secure.Host, certs)},
	} {
		t.Run(name, func(t *testing.T) {
			r := &transfer.Registry{Reference: tc.host + "/some/app:1", HostDir: tc.dir, DefaultScheme: tc.scheme}
			a := &account{}
			if tc.secret != nil {
				a.Secret, r.Credentials = *tc.secret, a
			}
			got, err := pull(t, registry.New(registry.Config{}), r, store(t))
			if asked := a.asked > 0; asked != tc.asked {
				t.Errorf("asked for credentials: %v, want %v", asked, tc.asked)
			}
			if tc.refused != "" {
				if err == nil || !strings.Contains(err.Error(), tc.refused) {
					t.Errorf("error %v, want one with %q", err, tc.refused)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got.Digest != want.Digest || got.Size != want.Size {
				t.Errorf("resolved %v of %d bytes, want %v of %d", got.Digest, got.Size, want.Digest, want.Size)
			}
		})
	}
	if !slices.Contains(issuer.Scopes(), "repository:some/app:pull") {
		t.Errorf("tokens were given for %q", issuer.Scopes())
	}
}

// dockerCerts lays certificates out as Docker's certs.d does.
func dockerCerts(t *testing.T, host, certs string) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, host), 0o755); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(certs, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, host, "ca.crt"), raw, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// TestHeaders sends what a transfer wants sent, and says who it is.
func TestHeaders(t *testing.T) {
	var got http.Header
	host := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Clone()
		http.NotFound(w, r)
	})
	c := registry.New(registry.Config{UserAgent: "gantry/1"})
	var log bytes.Buffer
	_, err := pull(t, c, &transfer.Registry{Reference: host + "/a/b:c", Headers: map[string]string{"X-Test": "yes"},
		Debug: transfer.DebugBoth, DebugLog: &log}, store(t))
	if !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("resolve: %v, want NotFound", err)
	}
	if got.Get("X-Test") != "yes" || got.Get("User-Agent") != "gantry/1" {
		t.Errorf("headers %v", got)
	}
	for _, want := range []string{"HEAD /v2/a/b/manifests/c HTTP/1.1", "404 Not Found", "got connection"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in the log:\n%s", want, log.String())
		}
	}
}

// TestDebugHidesSecrets shows requests without what would let their reader in.
func TestDebugHidesSecrets(t *testing.T) {
	host := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Set-Cookie", "session=hidden")
		if _, _, ok := r.BasicAuth(); !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		if r.URL.Query().Get("X-Amz-Signature") == "" {
			http.Redirect(w, r, "/elsewhere?ns=shown&X-Amz-Signature=hidden", http.StatusTemporaryRedirect)
			return
		}
		http.NotFound(w, r)
	})
	var log bytes.Buffer
	_, err := pull(t, registry.New(registry.Config{}), &transfer.Registry{Reference: host + "/a/b:c", Debug: transfer.DebugMessages,
		DebugLog: &log, Credentials: &account{Secret: transfer.Secret{Username: "me", Secret: "hidden"}}}, store(t))
	if !errors.Is(err, errdefs.ErrNotFound) {
		t.Errorf("resolve: %v, want NotFound", err)
	}
	for _, secret := range []string{"hidden", base64.StdEncoding.EncodeToString([]byte("me:hidden"))} {
		if strings.Contains(log.String(), secret) {
			t.Errorf("%q is in the log:\n%s", secret, log.String())
		}
	}
	for _, want := range []string{"Authorization: Basic ***", "Set-Cookie: ***", "Www-Authenticate: Basic realm=\"x\"", "ns=shown"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("no %q in the log:\n%s", want, log.String())
		}
	}
}

// TestPush sends an image to each kind of registry and finds it there.
func TestPush(t *testing.T) {
	open, _ := filled(t)
	_, certs := sink.Certificates(t)
	secure, private := open.TLS(t, certs, false), open.Private(t)
	tokens, issuer := open.Tokens(t, certs)
	secret := transfer.Secret{Username: registrytest.User, Secret: registrytest.Password}
	from := store(t)
	c := registry.New(registry.Config{})
	target, err := pull(t, c, &transfer.Registry{Reference: open.Host + "/some/app:1"}, from)
	if err != nil {
		t.Fatal(err)
	}
	children, err := manifest.ReadChildren(t.Context(), from, target)
	if err != nil {
		t.Fatal(err)
	}
	for name, r := range map[string]*transfer.Registry{
		"plain":  {Reference: open.Host + "/other/plain:2"},
		"tls":    {Reference: secure.Host + "/other/tls:2"},
		"basic":  {Reference: private.Host + "/other/basic:2", Credentials: &account{Secret: secret}},
		"tokens": {Reference: tokens.Host + "/other/tokens:2", Credentials: &account{Secret: secret}},
	} {
		t.Run(name, func(t *testing.T) {
			remote, err := c.Open(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			defer remote.Close()
			p, err := remote.Pusher(t.Context(), target)
			if err != nil {
				t.Fatal(err)
			}
			for _, d := range append(slices.Clone(children), target) {
				var sent int64
				if err := p.Push(t.Context(), from, d, func(n int64) { sent = n }); err != nil {
					t.Fatalf("push %s: %v", d.MediaType, err)
				}
				if sent != d.Size {
					t.Errorf("%s: told of %d bytes of %d", d.MediaType, sent, d.Size)
				}
			}
			again, err := remote.Pusher(t.Context(), target)
			if err != nil {
				t.Fatal(err)
			}
			if err := again.Push(t.Context(), from, target, func(int64) {}); !errors.Is(err, registry.ErrExists) {
				t.Errorf("push again: %v, want ErrExists", err)
			}
			got, err := pull(t, c, &transfer.Registry{Reference: open.Host + "/other/" + name + ":2"}, store(t))
			if err != nil || got.Digest != target.Digest {
				t.Errorf("pull back: %v, %v", got.Digest, err)
			}
		})
	}
	if !slices.Contains(issuer.Scopes(), "repository:other/tokens:pull,push") {
		t.Errorf("tokens were given for %q", issuer.Scopes())
	}
}

// TestSource lists repositories once, in order.
func TestSource(t *testing.T) {
	for _, tc := range []struct {
		reference, old string
		value          string
		ok             bool
	}{
		{"docker.io/library/a:1", "", "library/a", true},
		{"docker.io/library/a@sha256:1", "library/a", "", false},
		{"docker.io/library/a:1", "b,c/d", "b,c/d,library/a", true},
		{"docker.io/library/a:1", strings.Repeat("x", 4096), "", false},
		{"nothing", "", "", false},
	} {
		key, value, ok := registry.Source(tc.reference, map[string]string{"containerd.io/distribution.source.docker.io": tc.old})
		if ok != tc.ok || ok && (value != tc.value || key != "containerd.io/distribution.source.docker.io") {
			t.Errorf("Source(%q, %.20q) = %q, %.40q, %v", tc.reference, tc.old, key, value, ok)
		}
	}
	if key, _, _ := registry.Source("localhost:5000/a:1", nil); key != "containerd.io/distribution.source.localhost" {
		t.Errorf("key with a port: %q", key)
	}
	d := registry.WithSources(ocispec.Descriptor{Digest: digest.FromString("x")},
		map[string]string{"containerd.io/distribution.source.h": "own", "other": "x"}, map[string]string{"containerd.io/distribution.source.h": "parent"})
	if len(d.Annotations) != 1 || d.Annotations["containerd.io/distribution.source.h"] != "own" {
		t.Errorf("sources %v", d.Annotations)
	}
}
