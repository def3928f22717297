package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"

	"gantry/api/errdefs"
)

// listenTLS opens the TCP listener, which only clients with a certificate of the
// configured CA get through.
func listenTLS(g GRPCConfig) (net.Listener, error) {
	conf, err := tlsConfig(g)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", g.TCPAddress)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", g.TCPAddress, err)
	}
	return tls.NewListener(l, conf), nil
}

func tlsConfig(g GRPCConfig) (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(g.TCPTLSCert, g.TCPTLSKey)
	if err != nil {
		return nil, fmt.Errorf("certificate of %s: %w", g.TCPAddress, err)
	}
	ca, err := os.ReadFile(g.TCPTLSCA)
	if err != nil {
		return nil, fmt.Errorf("CA of %s: %w", g.TCPAddress, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, errdefs.InvalidArgument("CA of %s: no certificate in %s", g.TCPAddress, g.TCPTLSCA)
	}
	return &tls.Config{
		Certificates: []tls.Certificate{pair},
		ClientCAs:    pool,
		ClientAuth:   tls.RequireAndVerifyClientCert,
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2"},
	}, nil
}
