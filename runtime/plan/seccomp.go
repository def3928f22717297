package plan

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

func filterBytes(f []unix.SockFilter) (raw []byte, name string) {
	size := len(f) * int(unsafe.Sizeof(f[0]))
	return unsafe.Slice((*byte)(unsafe.Pointer(&f[0])), size), fmt.Sprintf("%d instructions", len(f))
}

func (b *builder) seccomp(o Process) {
	b.Label("load seccomp filter")
	raw, name := filterBytes(o.Seccomp)
	b.BPFFilter(name, raw, len(o.Seccomp), o.SeccompFlag)
}

// notify loads the filter that asks a listener while there is a parent to hand the
// listener to: before the start is awaited, as runc does. It refuses nothing, so that
// what comes after it still can be done.
func (b *builder) notify() {
	o := b.o.Process
	if len(o.Notify) == 0 {
		return
	}
	b.Label("load seccomp filter that notifies")
	permitted := o.HaveCaps | o.Caps.Permitted
	if !b.proc.NoNewPrivileges {
		b.capset(o.HaveCaps, permitted, o.Caps.Inheritable)
	}
	raw, name := filterBytes(o.Notify)
	b.NotifyFilter(TellListener, name, raw, len(o.Notify), o.NotifyFlag)
	if !b.proc.NoNewPrivileges {
		b.capset(o.Caps.Effective, permitted, o.Caps.Inheritable)
	}
}
