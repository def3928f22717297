package host

import (
	"bufio"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"
)

func (f *Features) detectKernel() {
	f.CgroupNamespaces = exists("/proc/self/ns/cgroup")
	f.Seccomp = unix.Prctl(unix.PR_GET_SECCOMP, 0, 0, 0, 0) != unix.EINVAL && seccompFilter()
	f.AppArmor = apparmor()
	f.IPv4Forwarding = Forwarding()
	f.RecursiveRO = unix.MountSetattr(-1, "", unix.AT_EMPTY_PATH, &unix.MountAttr{}) != unix.ENOSYS
	f.PingGroupRange = exists("/proc/sys/net/ipv4/ping_group_range")
	f.UnprivilegedPortStart = exists("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	f.ExtraMasked, _ = filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*/thermal_throttle")
}

// seccompFilter asks for filter mode without a filter: EFAULT means that it is there.
func seccompFilter() bool {
	return unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, 0, 0, 0) == unix.EFAULT
}

func apparmor() bool {
	return exists("/sys/kernel/security/apparmor") && os.Getenv("container") == "" &&
		strings.HasPrefix(word("/sys/module/apparmor/parameters/enabled"), "Y")
}

// capabilities returns what this process could hand to a child: permitted and bounding.
func capabilities() (have, known []string) {
	set, err := capability.NewPid2(0)
	if err == nil {
		err = set.Load()
	}
	all, lerr := capability.ListSupported()
	if lerr != nil {
		return nil, nil
	}
	for _, c := range all {
		name := "CAP_" + strings.ToUpper(c.String())
		known = append(known, name)
		if err == nil && set.Get(capability.PERMITTED, c) && set.Get(capability.BOUNDING, c) {
			have = append(have, name)
		}
	}
	return have, known
}

func memoryTotal() uint64 {
	file, err := os.Open("/proc/meminfo")
	if err != nil {
		return 0
	}
	defer file.Close()
	for sc := bufio.NewScanner(file); sc.Scan(); {
		if fields := strings.Fields(sc.Text()); len(fields) >= 2 && fields[0] == "MemTotal:" {
			kib, _ := strconv.ParseUint(fields[1], 10, 64)
			return kib * 1024
		}
	}
	return 0
}

func exists(path string) bool { _, err := os.Stat(path); return err == nil }

// word returns the first word of a small file, "" when it can't be read.
func word(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	s, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return s
}

// Forwarding says whether the host forwards IPv4 packets now.
func Forwarding() bool { return word("/proc/sys/net/ipv4/ip_forward") != "0" }
