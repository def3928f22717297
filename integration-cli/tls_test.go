package integrationcli

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/internal/testutil/engine"
)

// authority signs certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// newAuthority writes its own certificate to dir/ca.pem.
func newAuthority(t *testing.T, dir string) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key = a.issue(dir, "ca", &x509.Certificate{
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	return a
}

// issue writes NAME.pem and NAME-key.pem.
func (a *authority) issue(dir, name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber, c.NotBefore, c.NotAfter = big.NewInt(time.Now().UnixNano()), time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + "-key.pem": {Type: "EC PRIVATE KEY", Bytes: raw}} {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(block), 0o600); err != nil {
			a.t.Fatal(err)
		}
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return made, key
}

func (a *authority) client(dir, name string) {
	a.issue(dir, name, &x509.Certificate{Subject: pkix.Name{CommonName: name}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
}

func (a *authority) server(dir string) {
	a.issue(dir, "server", &x509.Certificate{
		Subject: pkix.Name{CommonName: "engine"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestTLS: a TCP socket lets in who has a certificate of its authority, and tells
// authorization plugins who that is.
func TestTLS(t *testing.T) {
	dir, other := t.TempDir(), t.TempDir()
	ca := newAuthority(t, dir)
	ca.server(dir)
	ca.client(dir, "alice")
	newAuthority(t, other).client(other, "mallory")
	addr := freePort(t)
	e, p := startGuarded(t, "-H", "tcp://"+addr, "--tlsverify", "--tlscacert", dir+"/ca.pem", "--tlscert", dir+"/server.pem", "--tlskey", dir+"/server-key.pem")
	as := func(cert string, args ...string) engine.Result {
		words := []string{"-H", "tcp://" + addr, "--tlsverify", "--tlscacert", dir + "/ca.pem"}
		if cert != "" {
			words = append(words, "--tlscert", cert+".pem", "--tlskey", cert+"-key.pem")
		}
		return e.Docker(append(words, args...)...)
	}
	if r := as(dir+"/alice", "run", "--rm", image, "echo", "hello"); r.Code != 0 || r.Stdout != "hello\n" {
		t.Errorf("alice: %d %s%s", r.Code, r.Stdout, r.Stderr)
	}
	if qs := p.asked("AuthZPlugin.AuthZReq", "/containers/create"); len(qs) != 1 || qs[0].User != "alice" || qs[0].Certificates != 1 {
		t.Errorf("the plugin was told of %+v", qs)
	}
	if r := as(other+"/mallory", "ps"); r.Code == 0 {
		t.Errorf("another authority's client: %s", r.Stdout)
	}
	if r := as("/nonexistent", "ps"); r.Code == 0 {
		t.Error("a client whose certificate is missing")
	}
	if r := e.Docker("-H", "tcp://"+addr, "ps"); r.Code == 0 || !strings.Contains(r.Stderr, "Client sent an HTTP request to an HTTPS server") {
		t.Errorf("without TLS: %d %s", r.Code, r.Stderr)
	}
	if resp, err := http.Get("https://" + addr + "/_ping"); err == nil {
		resp.Body.Close()
		t.Error("a client that knows nothing was let in")
	}
	if qs := p.asked("AuthZPlugin.AuthZReq", ""); len(qs) > 0 {
		t.Errorf("strangers got as far as %+v", qs)
	}
	if got := e.Must("info", "-f", "{{.Warnings}}"); strings.Contains(got, "without encryption") || strings.Contains(got, "client verification") {
		t.Errorf("warned of: %s", got)
	}
}

// TestTLSWithoutVerification: it is said by name, warned of, and anybody comes in.
func TestTLSWithoutVerification(t *testing.T) {
	dir := t.TempDir()
	newAuthority(t, dir).server(dir)
	tls, plain := freePort(t), freePort(t)
	t.Run("tls", func(t *testing.T) {
		e := engine.Start(t, "-H", tls, "--tlsverify=false", "--tlscert", dir+"/server.pem", "--tlskey", dir+"/server-key.pem")
		if r := e.Docker("-H", "tcp://"+tls, "--tls", "--tlscacert", dir+"/ca.pem", "version", "-f", "{{.Server.Version}}"); r.Code != 0 {
			t.Errorf("TLS: %s", r.Stderr)
		}
		if got := e.Must("info", "-f", "{{join .Warnings \"\\n\"}}"); !strings.Contains(got, "[DEPRECATION NOTICE]: API is accessible on https://"+tls+" without TLS client verification.") {
			t.Errorf("warnings: %s", got)
		}
	})
	t.Run("plain", func(t *testing.T) {
		e := engine.Start(t, "-H", "tcp://"+plain, "--tls=false")
		if r := e.Docker("-H", "tcp://"+plain, "version", "-f", "{{.Server.Version}}"); r.Code != 0 {
			t.Errorf("plain: %s", r.Stderr)
		}
		if got := e.Must("info", "-f", "{{join .Warnings \"\\n\"}}"); !strings.Contains(got, "[DEPRECATION NOTICE]: API is accessible on http://"+plain+" without encryption.") {
			t.Errorf("warnings: %s", got)
		}
		if log := e.Log(); !strings.Contains(log, "Binding to IP address without --tlsverify is insecure") {
			t.Errorf("the log says nothing: %s", log)
		}
	})
}

// TestValidateAccess: what cannot be served, or should not, is refused before anything begins.
func TestValidateAccess(t *testing.T) {
	none := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(none, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args []string
		want string // "" is fine
	}{
		{[]string{"-H", "tcp://127.0.0.1:1"}, "a tcp address without TLS verification is refused"},
		{[]string{"-H", "tcp://127.0.0.1:1", "--tls=false"}, ""},
		{[]string{"-H", "tcp://127.0.0.1:1", "--tlsverify=false"}, "tls needs tlscert and tlskey"},
		{[]string{"-H", "tcp://127.0.0.1:1", "--tlsverify", "--tlscert", "/x", "--tlskey", "/x"}, "tlsverify needs tlscacert"},
		{[]string{"-H", "npipe://x"}, "invalid bind address (npipe://x): unsupported proto 'npipe'"},
		{[]string{"--metrics-addr", "nowhere"}, "invalid metrics-addr: address nowhere: missing port in address"},
		{[]string{"--containerd-plugins-namespace", "moby"}, "containers namespace and plugins namespace cannot be the same"},
		{[]string{"--max-concurrent-uploads", "-1"}, "invalid max concurrent uploads: -1"},
		{[]string{"--raw-logs", "--experimental", "--cpu-rt-period", "5", "--oom-score-adjust=1"}, ""},
	} {
		cmd := exec.Command(engine.Binary(t, "gantryd"), append([]string{"--validate", "--config-file", none}, tc.args...)...)
		cmd.Env = append(os.Environ(), "DOCKER_CERT_PATH=/nonexistent", "DOCKER_TLS_VERIFY=")
		out, err := cmd.CombinedOutput()
		if (err == nil) != (tc.want == "") || !strings.Contains(string(out), tc.want) {
			t.Errorf("%v: %v\n%s", tc.args, err, out)
		}
	}
}
