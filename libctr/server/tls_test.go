package server_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	versionapi "github.com/containerd/containerd/api/services/version/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/internal/testutil/need"
	"gantry/libctr/server"
)

// authority signs certificates for 127.0.0.1.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.cert = &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true,
		BasicConstraintsValid: true, NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign}
	a.pem, _, a.key = a.sign(t, a.cert)
	return a
}

// sign makes a certificate; the authority's own when it has no key yet.
func (a *authority) sign(t *testing.T, c *x509.Certificate) (certificate, private []byte, key *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	by := a.key
	if by == nil {
		by = key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, a.cert, &key.PublicKey, by)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}), key
}

func (a *authority) leaf(t *testing.T) (certificate, private []byte) {
	t.Helper()
	certificate, private, _ = a.sign(t, &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
	return certificate, private
}

// TestTCP: only who has a certificate of the CA gets through.
func TestTCP(t *testing.T) {
	need.Root(t, "makes a core")
	ca, stranger := newAuthority(t), newAuthority(t)
	cert, key := ca.leaf(t)
	dir := t.TempDir()
	for name, data := range map[string][]byte{"ca.pem": ca.pem, "cert.pem": cert, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	probe, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := probe.Addr().String()
	probe.Close()
	cfg := newConfig(t)
	cfg.GRPC = server.GRPCConfig{TCPAddress: address, TCPTLSCA: filepath.Join(dir, "ca.pem"),
		TCPTLSCert: filepath.Join(dir, "cert.pem"), TCPTLSKey: filepath.Join(dir, "key.pem")}
	start(t, cfg)
	ask := func(creds credentials.TransportCredentials) error {
		c, err := grpc.NewClient(address, grpc.WithTransportCredentials(creds))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = versionapi.NewVersionClient(c).Version(t.Context(), &emptypb.Empty{})
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.pem)
	with := func(a *authority) credentials.TransportCredentials {
		conf := &tls.Config{RootCAs: pool}
		if a != nil {
			cert, key := a.leaf(t)
			pair, err := tls.X509KeyPair(cert, key)
			if err != nil {
				t.Fatal(err)
			}
			conf.Certificates = []tls.Certificate{pair}
		}
		return credentials.NewTLS(conf)
	}
	if err := ask(with(ca)); err != nil {
		t.Errorf("a client of the CA: %v", err)
	}
	for name, creds := range map[string]credentials.TransportCredentials{
		"no certificate": with(nil), "another's certificate": with(stranger), "no TLS": insecure.NewCredentials()} {
		if err := ask(creds); err == nil {
			t.Errorf("%s: got through", name)
		}
	}
}
