package plan

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// loopback brings up the one interface of a new network namespace, as runc does:
// a joined one is its maker's.
func (b *builder) loopback() {
	if b.ns.fresh&unix.CLONE_NEWNET == 0 {
		return
	}
	b.Label("bring up the loopback interface")
	req := make([]byte, 40) // struct ifreq
	copy(req, "lo")
	binary.NativeEndian.PutUint16(req[unix.IFNAMSIZ:], unix.IFF_UP)
	s := b.Reg("socket")
	b.CallTo(s, "socket", unix.SYS_SOCKET, program.Named(unix.AF_INET, "AF_INET"),
		program.Named(unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, "DGRAM|CLOEXEC"), program.Num(0))
	b.ioctl(s, unix.SIOCSIFFLAGS, "SIOCSIFFLAGS", program.Bytes(req, "lo UP"))
	b.Close(s)
}
