package plan

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// console opens a terminal of the container's own devpts, makes it stdio and
// the controlling terminal, and hands the master to the parent. With bind it
// also becomes /dev/console.
func (b *builder) console(ptmx string, bind bool) {
	b.Label("open terminal")
	master, _ := b.OpenIn("master", b.root, ptmx, unix.O_RDWR|unix.O_NOCTTY)
	b.ioctl(master, unix.TIOCSPTLCK, "TIOCSPTLCK", program.Bytes(make([]byte, 4), "0"))
	if s := b.proc.ConsoleSize; s != nil {
		size := binary.NativeEndian.AppendUint16(nil, uint16(s.Height))
		size = binary.NativeEndian.AppendUint16(size, uint16(s.Width))
		size = append(size, 0, 0, 0, 0)
		b.ioctl(master, unix.TIOCSWINSZ, "TIOCSWINSZ", program.Bytes(size, fmt.Sprintf("%dx%d", s.Width, s.Height)))
	}
	tty := b.Reg("tty")
	b.CallTo(tty, "ioctl", unix.SYS_IOCTL, program.From(master), program.Named(unix.TIOCGPTPEER, "TIOCGPTPEER"),
		program.Named(unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, "RDWR|NOCTTY|CLOEXEC"))
	b.TellFD(TellTTY, master)
	b.Close(master)
	if b.o.AskTTY {
		b.Ask(TellTTY)
	}
	if bind {
		b.Label("bind terminal on /dev/console")
		src, _ := b.OpenTree("console", program.From(tty), "", unix.OPEN_TREE_CLONE|unix.AT_EMPTY_PATH)
		to, _ := b.MakeFile("to", b.root, "/dev/console")
		b.Attach(src, to)
		b.Close(to)
		b.Close(src)
	}
	b.Label("make terminal the standard descriptors")
	for fd := range 3 {
		b.Dup(tty, fd)
	}
	b.Close(tty)
	b.Call("ioctl", unix.SYS_IOCTL, program.Num(0), program.Named(unix.TIOCSCTTY, "TIOCSCTTY"), program.Num(0))
}

func (b *builder) ioctl(r program.Reg, req uint, name string, arg program.Arg) {
	b.Call("ioctl", unix.SYS_IOCTL, program.From(r), program.Named(req, name), arg)
}
