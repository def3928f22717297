package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/docker/go-connections/tlsconfig"

	"gantry/daemon/config"
)

// listen opens every host of c; on error none stays open.
func listen(c *config.Config, log *slog.Logger) (all []net.Listener, err error) {
	defer func() {
		if err != nil {
			closeAll(all)
			all = nil
		}
	}()
	for _, host := range c.Hosts {
		proto, addr, _ := strings.Cut(host, "://")
		var opened []net.Listener
		switch proto {
		case "fd":
			opened, err = inherited(addr)
		case "tcp":
			opened, err = listenTCP(c, addr, log)
		default:
			opened, err = listenUnix(c, addr, log)
		}
		all = append(all, opened...)
		if err != nil {
			return all, fmt.Errorf("listen on %s: %w", host, err)
		}
		log.Info("API listens", "host", host)
	}
	return all, nil
}

func closeAll(ls []net.Listener) {
	for _, l := range ls {
		l.Close()
	}
}

// inherited takes the sockets of systemd's activation: all, or the one numbered or
// named by addr.
func inherited(addr string) ([]net.Listener, error) {
	byName, err := activation.ListenersWithNames()
	if err != nil {
		return nil, err
	}
	var all []net.Listener
	for name, ls := range byName {
		for _, l := range ls {
			if l != nil && (addr == "" || addr == "*" || addr == name) {
				all = append(all, l)
			}
		}
	}
	if len(all) == 0 {
		return nil, errors.New("no sockets found via socket activation: make sure the service was started by systemd")
	}
	return all, nil
}

func listenTCP(c *config.Config, addr string, log *slog.Logger) ([]net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	if !c.TLSVerify.Value {
		log.Warn("Binding to IP address without --tlsverify is insecure and gives root access on this machine to everyone who has access to your network.", "host", addr)
		log.Warn("Binding to an IP address, even on localhost, can also give access to scripts run in a browser. Be safe out there!", "host", addr)
	}
	if !c.UseTLS() {
		return []net.Listener{l}, nil
	}
	opts := tlsconfig.Options{CertFile: c.TLSCert, KeyFile: c.TLSKey, ExclusiveRootPools: true}
	if c.TLSVerify.Value {
		opts.CAFile, opts.ClientAuth = c.TLSCACert, tls.RequireAndVerifyClientCert
	}
	conf, err := tlsconfig.Server(opts)
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("invalid TLS configuration: %w", err)
	}
	conf.NextProtos = []string{"http/1.1"}
	return []net.Listener{tls.NewListener(l, conf)}, nil
}

// listenUnix makes the socket with mode 0660 and the group of c. A socket that
// nobody listens on any more is replaced; one that answers is an error.
func listenUnix(c *config.Config, path string, log *slog.Logger) ([]net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if conn, err := net.Dial("unix", path); err == nil {
		conn.Close()
		return nil, fmt.Errorf("another process serves %s", path)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := own(path, c, log); err != nil {
		l.Close()
		return nil, err
	}
	return []net.Listener{l}, nil
}

// own narrows the socket to root and the group; net.Listen made it under a umask
// that leaves it closed to others until then.
func own(path string, c *config.Config, log *slog.Logger) error {
	gid, err := groupID(c.Group)
	if err != nil {
		if c.Group != config.DefaultGroup {
			return fmt.Errorf("group %s: %w", c.Group, err)
		}
		log.Warn("no such group: the socket is root's only", "group", c.Group)
		gid = 0
	}
	if err := os.Chown(path, 0, gid); err != nil {
		return err
	}
	return os.Chmod(path, 0o660)
}

func groupID(name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	if g, err := user.LookupGroup(name); err == nil {
		return strconv.Atoi(g.Gid)
	}
	return strconv.Atoi(name)
}
