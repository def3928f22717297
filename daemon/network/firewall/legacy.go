package firewall

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The interface of legacy iptables, linux/netfilter_ipv4/ip_tables.h.
const (
	soGetInfo    = 64 // IPT_SO_GET_INFO
	soGetEntries = 65 // IPT_SO_GET_ENTRIES
	hookForward  = 2  // NF_INET_FORWARD

	ifaceAt     = 16  // ipt_entry.ip.iniface; outiface follows
	targetAt    = 88  // ipt_entry.target_offset, next_offset, u16 each
	entrySize   = 112 // struct ipt_entry
	verdictAt   = 32  // xt_standard_target.verdict
	dropVerdict = -1  // -NF_DROP - 1
)

type ipTablesInfo struct { // struct ipt_getinfo
	Name             [32]byte
	ValidHooks       uint32
	Entry, Underflow [5]uint32
	Entries, Size    uint32
}

// surveyLegacy tells whether the rules of legacy iptables drop what our bridges
// forward. Those are no nftables: they are warned of, not changed.
func surveyLegacy(bridges []string) (warnings []string, err error) {
	tables, err := os.ReadFile("/proc/thread-self/net/ip_tables_names")
	if errors.Is(err, fs.ErrNotExist) || err == nil && !slices.Contains(strings.Fields(string(tables)), filterTable) {
		return nil, nil // asking the kernel would load the module
	}
	if err != nil {
		return nil, err
	}
	info, blob, err := readLegacy()
	if err != nil {
		return nil, fmt.Errorf("read the legacy iptables filter table: %w", err)
	}
	drops, named := legacyForward(info, blob)
	if !drops {
		return nil, nil
	}
	for _, b := range bridges {
		if !slices.Contains(named, b) {
			warnings = append(warnings, fmt.Sprintf("legacy iptables drop what containers on %s send and are sent: run "+
				"iptables-legacy -I FORWARD -i %[1]s -j ACCEPT and iptables-legacy -I FORWARD -o %[1]s -j ACCEPT, or use iptables-nft; see docs/firewall.md", b))
		}
	}
	return warnings, nil
}

func readLegacy() (info ipTablesInfo, blob []byte, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return info, nil, err
	}
	defer unix.Close(fd) //nolint:errcheck // nothing was written
	copy(info.Name[:], filterTable)
	if err := getsockopt(fd, soGetInfo, unsafe.Slice((*byte)(unsafe.Pointer(&info)), unsafe.Sizeof(info))); err != nil {
		return info, nil, err
	}
	const head = 40 // struct ipt_get_entries before its entries
	all := make([]byte, head+int(info.Size))
	copy(all, filterTable)
	binary.NativeEndian.PutUint32(all[32:], info.Size)
	// EAGAIN: the table has grown or shrunk since; whoever changes it makes us look again.
	err = getsockopt(fd, soGetEntries, all)
	return info, all[head:], err
}

func getsockopt(fd, name int, buf []byte) error {
	size := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_IP, uintptr(name),
		uintptr(unsafe.Pointer(&buf[0])), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return nil
}

// legacyForward is pure: is the policy of FORWARD to drop, and which interfaces do
// the rules of the table name?
func legacyForward(info ipTablesInfo, blob []byte) (drops bool, named []string) {
	for at := 0; at+entrySize <= len(blob); {
		e := blob[at:]
		named = append(named, cString(e[ifaceAt:ifaceAt+16]), cString(e[ifaceAt+16:ifaceAt+32]))
		target, next := int(binary.NativeEndian.Uint16(e[targetAt:])), int(binary.NativeEndian.Uint16(e[targetAt+2:]))
		if uint32(at) == info.Underflow[hookForward] && target+verdictAt+4 <= len(e) {
			drops = int32(binary.NativeEndian.Uint32(e[target+verdictAt:])) == dropVerdict
		}
		if next < entrySize {
			break
		}
		at += next
	}
	return drops, named
}

func cString(b []byte) string {
	s, _, _ := bytes.Cut(b, []byte{0})
	return string(s)
}
