package leak

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// listening maps the inodes of sockets that take connections or datagrams, in this
// network namespace, to "port PROTO NUMBER".
func listening() map[string]string {
	out := map[string]string{}
	for _, proto := range []string{"tcp", "udp"} {
		for _, family := range []string{"", "6"} {
			raw, _ := os.ReadFile("/proc/net/" + proto + family)
			for line := range strings.Lines(string(raw)) {
				f := strings.Fields(line) // sl local remote state … uid timeout inode
				if len(f) < 10 || proto == "tcp" && f[3] != "0A" {
					continue
				}
				_, hex, _ := strings.Cut(f[1], ":")
				if port, err := strconv.ParseUint(hex, 16, 16); err == nil {
					out[f[9]] = fmt.Sprintf("port %s %d", proto, port)
				}
			}
		}
	}
	return out
}

// heldBy lists the ports that a process holds.
func heldBy(pid string, ports map[string]string) (out []string) {
	fds, _ := filepath.Glob("/proc/" + pid + "/fd/*")
	for _, fd := range fds {
		to, _ := os.Readlink(fd)
		inode, ok := strings.CutPrefix(to, "socket:[")
		if line := ports[strings.TrimSuffix(inode, "]")]; ok && line != "" && !slices.Contains(out, line) {
			out = append(out, line)
		}
	}
	return out
}
