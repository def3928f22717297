// Package hostfiles writes what a container's resolver reads: hosts, hostname and
// resolv.conf. All three are made anew at each start; the container may edit them
// while it runs.
package hostfiles

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode"
)

// Files are what one container gets.
type Files struct {
	Hostname, Domainname string
	Addresses            []netip.Addr // the container's own, for its line in hosts
	Extra                []string     // "name:address", addresses already resolved
	IPv6                 bool         // the container has IPv6 on its loopback
	DNS                  Resolver     // "" fields take the host's
	Host                 bool         // host network: take the host's files whole
	UID, GID             int          // who owns the files
}

// Resolver is a resolv.conf.
type Resolver struct {
	Servers, Search, Options []string
}

// Paths of the written files.
type Paths struct{ Hosts, Hostname, ResolvConf string }

// Write writes the files into dir. What a user gave stays within its line: control
// characters are left out.
func Write(dir string, f Files) (Paths, error) {
	f = f.clean()
	p := Paths{filepath.Join(dir, "hosts"), filepath.Join(dir, "hostname"), filepath.Join(dir, "resolv.conf")}
	host, err := readHost(hostResolvConf())
	if err != nil {
		return p, err
	}
	hosts := f.hosts()
	if f.Host {
		if hosts, err = readHost("/etc/hosts"); err != nil {
			return p, err
		}
		hosts = append(hosts, f.extra()...)
	}
	for path, data := range map[string][]byte{
		p.Hosts: hosts, p.Hostname: []byte(f.Hostname + "\n"), p.ResolvConf: resolvConf(host, f.DNS, f.Host),
	} {
		// Written in place: a container that still has the old file mounted sees the new text.
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return p, fmt.Errorf("write %s: %w", filepath.Base(path), err)
		}
		if err := os.Lchown(path, f.UID, f.GID); err != nil {
			return p, fmt.Errorf("owner of %s: %w", filepath.Base(path), err)
		}
	}
	return p, nil
}

func (f Files) clean() Files {
	f.Hostname, f.Domainname = oneLine(f.Hostname), oneLine(f.Domainname)
	for _, list := range []*[]string{&f.Extra, &f.DNS.Servers, &f.DNS.Search, &f.DNS.Options} {
		*list = slices.Clone(*list)
		for i, s := range *list {
			(*list)[i] = oneLine(s)
		}
	}
	return f
}

func oneLine(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return -1
		}
		return r
	}, s)
}

// hostResolvConf is the file with the host's real servers: where systemd-resolved
// answers on loopback, a container needs those behind it.
func hostResolvConf() string {
	const stub, real = "/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"
	raw, _ := readHost(stub)
	if r := parse(raw); len(r.Servers) == 1 && r.Servers[0] == "127.0.0.53" {
		if _, err := os.Stat(real); err == nil {
			return real
		}
	}
	return stub
}

// HostServers are the host's name servers, none where they can't be read.
func HostServers() (all []netip.Addr) {
	raw, _ := readHost(hostResolvConf())
	for _, s := range parse(raw).Servers {
		if a, err := netip.ParseAddr(s); err == nil {
			all = append(all, a.WithZone("").Unmap())
		}
	}
	return all
}

// readHost reads a file of the host, empty when there is none.
func readHost(path string) ([]byte, error) {
	f, err := os.Open(path)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 1<<20))
}

func (f Files) hosts() []byte {
	var b bytes.Buffer
	b.WriteString("127.0.0.1\tlocalhost\n")
	if f.IPv6 {
		b.WriteString("::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\nff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n")
	}
	b.Write(f.extra())
	names := f.Hostname
	if f.Domainname != "" {
		names = f.Hostname + "." + f.Domainname + " " + f.Hostname
	} else if short, _, ok := strings.Cut(f.Hostname, "."); ok {
		names += " " + short
	}
	for _, a := range f.Addresses {
		fmt.Fprintf(&b, "%s\t%s\n", a, names)
	}
	return b.Bytes()
}

func (f Files) extra() []byte {
	var b bytes.Buffer
	for _, e := range f.Extra {
		if name, addr, ok := strings.Cut(e, ":"); ok {
			fmt.Fprintf(&b, "%s\t%s\n", strings.Trim(addr, "[]"), name)
		}
	}
	return b.Bytes()
}

func parse(raw []byte) (r Resolver) {
	for _, line := range strings.Split(string(raw), "\n") {
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		switch f[0] {
		case "nameserver":
			r.Servers = append(r.Servers, f[1])
		case "search", "domain":
			r.Search = f[1:]
		case "options":
			r.Options = append(r.Options, f[1:]...)
		}
	}
	return r
}

// resolvConf is the host's file with what was asked for put in its place. Servers on
// the host's loopback are of no use inside; with none left, as dockerd does, public
// ones are taken.
func resolvConf(host []byte, want Resolver, sameNet bool) []byte {
	r := parse(host)
	if !sameNet {
		r.Servers = slices.DeleteFunc(r.Servers, func(s string) bool {
			a, err := netip.ParseAddr(s)
			return err != nil || a.IsLoopback() || a.Is6() // no IPv6 in a container so far
		})
	}
	if len(want.Servers) > 0 {
		r.Servers = want.Servers
	}
	if len(want.Search) > 0 {
		r.Search = want.Search
	}
	if len(want.Options) > 0 {
		r.Options = want.Options
	}
	if len(r.Servers) == 0 && !sameNet {
		r.Servers = []string{"8.8.8.8", "8.8.4.4"}
	}
	var b bytes.Buffer
	b.WriteString("# Generated by the container engine.\n")
	for _, s := range r.Servers {
		fmt.Fprintf(&b, "nameserver %s\n", s)
	}
	if len(r.Search) > 0 && !slices.Equal(r.Search, []string{"."}) {
		fmt.Fprintf(&b, "search %s\n", strings.Join(r.Search, " "))
	}
	if len(r.Options) > 0 {
		fmt.Fprintf(&b, "options %s\n", strings.Join(r.Options, " "))
	}
	return b.Bytes()
}
