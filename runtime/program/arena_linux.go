package program

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

const scratchSize = 48 << 10

// arena is a program made ready to run: one mapping with the machine, its
// instructions, registers, data and scratch, and the shared page.
type arena struct {
	mem    []byte
	page   []byte // shared with the child; nil once a Timeline has it
	used   int
	placed map[*data]uintptr
}

// assemble lays p out in memory. The caller unmaps the arena.
func assemble(p *Program) (*arena, error) {
	a := &arena{placed: map[*data]uintptr{}}
	size := scratchSize + 4096 + len(p.regs)*8 + len(p.ops)*int(unsafe.Sizeof(instruction{}))
	for _, o := range p.ops {
		size += len(o.label) + 16
		for _, arg := range o.args {
			size += arg.data.size()
		}
	}
	var err error
	if a.mem, err = unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_POPULATE); err != nil {
		return nil, fmt.Errorf("map program: %w", err)
	}
	if a.page, err = unix.Mmap(-1, 0, p.sharedSize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANON|unix.MAP_POPULATE); err != nil {
		unix.Munmap(a.mem)
		return nil, fmt.Errorf("map result page: %w", err)
	}
	if err := a.fill(p); err != nil {
		a.unmap()
		return nil, err
	}
	return a, nil
}

func (a *arena) unmap() {
	unix.Munmap(a.mem)
	if a.page != nil {
		unix.Munmap(a.page)
	}
}

func (d *data) size() int {
	if d == nil {
		return 0
	}
	n := len(d.b) + 16
	for _, p := range d.ptrs {
		n += p.to.size()
	}
	return n
}

// take reserves n bytes, aligned to 8.
func (a *arena) take(n int) uintptr {
	at := a.used
	a.used += (n + 7) &^ 7
	return uintptr(unsafe.Pointer(&a.mem[at]))
}

func (a *arena) bytes(addr uintptr, n int) []byte {
	off := addr - uintptr(unsafe.Pointer(&a.mem[0]))
	return a.mem[off : off+uintptr(n)]
}

func (a *arena) place(d *data) uintptr {
	if addr, ok := a.placed[d]; ok {
		return addr
	}
	addr := a.take(len(d.b))
	a.placed[d] = addr
	b := a.bytes(addr, len(d.b))
	copy(b, d.b)
	for _, p := range d.ptrs {
		to := a.place(p.to)
		*(*uintptr)(unsafe.Pointer(&b[p.at])) = to
	}
	return addr
}

func (a *arena) machine() *machine { return (*machine)(unsafe.Pointer(&a.mem[0])) }

func (a *arena) shared() *shared { return (*shared)(unsafe.Pointer(&a.page[0])) }

// regs are the registers' values.
func (a *arena) regs(n int) []int64 {
	off := a.machine().regs - uintptr(unsafe.Pointer(&a.mem[0]))
	return unsafe.Slice((*int64)(unsafe.Pointer(&a.mem[off])), n)
}

func (a *arena) fill(p *Program) error {
	a.take(int(unsafe.Sizeof(machine{})))
	m := a.machine()
	m.regs = a.take(8 * len(p.regs))
	m.nops = uintptr(len(p.ops))
	opsAt := a.used
	m.ops = a.take(len(p.ops) * int(unsafe.Sizeof(instruction{})))
	m.scratch = a.take(scratchSize)
	m.shared = uintptr(unsafe.Pointer(&a.page[0]))
	if p.Timed {
		m.clock = m.shared + unsafe.Sizeof(shared{})
	}
	labels := map[string]uintptr{}
	for i, o := range p.ops {
		in := (*instruction)(unsafe.Pointer(&a.mem[opsAt+i*int(unsafe.Sizeof(instruction{}))]))
		if err := a.encode(in, o, len(p.regs)); err != nil {
			return fmt.Errorf("%s: %s: %w", o.label, o.name, err)
		}
		if labels[o.label] == 0 {
			labels[o.label] = a.place(cstring(o.label))
		}
		in.label, in.labelLen = labels[o.label], uintptr(len(o.label))
	}
	return nil
}

func (a *arena) encode(in *instruction, o *Op, nregs int) error {
	in.nr, in.out = o.nr, int32(o.out)
	if len(o.args) > len(in.args) || len(o.tolerate) > len(in.tolerate) {
		return unix.E2BIG
	}
	if o.skipOK > 1<<15 || o.skipErr > 1<<15 || int(o.out) >= nregs {
		return unix.ERANGE
	}
	in.skipOK, in.skipErr = uint16(o.skipOK), uint16(o.skipErr)
	for i, e := range o.tolerate {
		in.tolerate[i] = uint16(e)
	}
	if o.note {
		in.note = 1
	}
	for i, arg := range o.args {
		switch arg.is {
		case argNum:
			in.args[i] = uintptr(arg.num)
		case argReg:
			in.args[i] = uintptr(arg.reg)
			in.regs |= 1 << i
		case argData:
			in.args[i] = a.place(arg.data)
		}
	}
	return nil
}
