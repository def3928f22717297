package config

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCompleteHost(t *testing.T) {
	for _, tc := range []struct {
		in   string
		tls  bool
		want string // an error when it has a blank
	}{
		{"unix:///a/b", false, "unix:///a/b"},
		{"unix://", false, DefaultHost},
		{"tcp://", false, "tcp://127.0.0.1:2375"},
		{"tcp://", true, "tcp://127.0.0.1:2376"},
		{"tcp://:80", false, "tcp://127.0.0.1:80"},
		{"0.0.0.0:1", false, "tcp://0.0.0.0:1"},
		{"tcp://[::1]", true, "tcp://[::1]:2376"},
		{"tcp://[::1]:5", true, "tcp://[::1]:5"},
		{"fd://", false, "fd://"},
		{"npipe://x", false, "unsupported proto 'npipe'"},
		{"tcp://a:1/path", false, "should not contain a path element"},
		{"tcp://a:1:2", false, "too many colons in address"},
		{"unix://tcp://x", false, "invalid unix address: tcp://x"},
	} {
		got, err := completeHost(tc.in, tc.tls)
		if err != nil {
			got = err.Error()
		}
		if got != tc.want && !(strings.Contains(tc.want, " ") && strings.Contains(got, tc.want)) {
			t.Errorf("%s: %s, want %s", tc.in, got, tc.want)
		}
	}
}

// TestCertificates: what is not named is looked for, and what is not there stays unnamed.
func TestCertificates(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CERT_PATH", dir)
	for _, name := range []string{"ca.pem", "cert.pem", "key.pem"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	none := file(t, "{}")
	c, err := Load([]string{"--tlsverify", "-H", "tcp://", "--config-file", none}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if c.TLSCACert != dir+"/ca.pem" || c.TLSCert != dir+"/cert.pem" || c.TLSKey != dir+"/key.pem" || c.Hosts[0] != "tcp://127.0.0.1:2376" {
		t.Errorf("got %+v", c)
	}
	if c, err = Load([]string{"--config-file", none}, io.Discard); err != nil || c.TLSCert != "" {
		t.Errorf("without TLS: %+v, %v", c, err)
	}
	t.Setenv("DOCKER_TLS_VERIFY", "1")
	if c, err = Load([]string{"--config-file", none}, io.Discard); err != nil || !c.TLSVerify.Value || c.TLSKey == "" {
		t.Errorf("DOCKER_TLS_VERIFY: %+v, %v", c, err)
	}
}
