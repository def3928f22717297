package program

import "golang.org/x/sys/unix"

// IsType fails with EXDEV unless the file in r lies on a filesystem of this type, a
// magic number of statfs(2).
func (p *Program) IsType(r Reg, magic uint32, name string) *Op {
	stat := Buffer("", int(sizeofStatfs), name)
	p.Call("fstatfs", unix.SYS_FSTATFS, From(r), stat)
	return p.Check(stat, 0, ^uint32(0), magic, unix.EXDEV)
}

const sizeofStatfs = 120 // struct statfs of 64 bit; its type comes first
