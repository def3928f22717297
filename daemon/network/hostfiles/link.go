package hostfiles

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// Entry is a line of hosts.
type Entry struct {
	Address netip.Addr
	Names   []string
}

// Add puts entries at the end of a hosts file, in place, since it is mounted.
func Add(path string, entries []Entry) error {
	if len(entries) == 0 {
		return nil
	}
	var b bytes.Buffer
	for _, e := range entries {
		fmt.Fprintf(&b, "%s\t%s\n", e.Address, oneLine(strings.Join(e.Names, " ")))
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b.Bytes())
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// maxHosts is how long a hosts file may be that is read, in bytes.
const maxHosts = 1 << 19

// Readdress gives the lines whose first name is name one of the addresses, the one of
// the same family. A container may have written anything there; what is no such line
// stays as it is.
func Readdress(path, name string, now []netip.Addr) error {
	if info, err := os.Stat(path); err == nil && info.Size() > maxHosts {
		return fmt.Errorf("%s has %d bytes: too long to be changed", path, info.Size())
	}
	old, err := readHost(path)
	if err != nil {
		return err
	}
	lines := strings.Split(string(old), "\n")
	for i, line := range lines {
		address, names, ok := strings.Cut(line, "\t")
		was, err := netip.ParseAddr(address)
		if !ok || err != nil {
			continue
		}
		if first, _, _ := strings.Cut(names, " "); first != name {
			continue
		}
		family := func(a netip.Addr) bool { return a.Is4() == was.Is4() }
		if j := slices.IndexFunc(now, family); j >= 0 {
			lines[i] = now[j].String() + "\t" + names
		}
	}
	text := []byte(strings.Join(lines, "\n"))
	if bytes.Equal(text, old) {
		return nil
	}
	return os.WriteFile(path, text, 0o644)
}
