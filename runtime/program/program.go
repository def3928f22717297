package program

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// Reg is a register: it holds an int64, most often a file descriptor.
type Reg int

// noReg as a result means that the result is dropped.
const noReg Reg = -1

// regSync holds the child's end of the socket to its parent.
const regSync Reg = 0

// Program is a list of system calls under construction, and what the child
// that runs it is cloned with. The zero value is not ready; use New. It is not
// safe for concurrent use; a finished one may be started many times.
type Program struct {
	Clone  Clone
	Timed  bool // note when each op ends; see Process.Timeline
	ops    []*Op
	regs   []string
	inputs []Reg
	label  string
}

// Clone says how the child comes into being.
type Clone struct {
	Flags  uint64       // CLONE_NEW*
	Signal int          // sent to the parent at the end; 0 hides the child from waits that don't ask for it with __WALL, until it calls execve
	Cgroup Reg          // CLONE_INTO_CGROUP; 0 is none
	CPUs   *unix.CPUSet // where the one that clones runs meanwhile; nil: where it likes
	PidNS  Reg          // a pidfd or pid namespace that the child is born into; 0 is none
}

// New returns an empty program whose child announces its end with SIGCHLD.
func New() *Program {
	return &Program{regs: []string{"sync"}, inputs: []Reg{regSync}, Clone: Clone{Signal: int(unix.SIGCHLD)}}
}

// Input declares a register that Start fills with a file descriptor of the
// caller. The same name gives the same register.
func (p *Program) Input(name string) Reg {
	for _, r := range p.inputs {
		if p.regs[r] == name {
			return r
		}
	}
	r := p.Reg(name)
	p.inputs = append(p.inputs, r)
	return r
}

// Inputs are the names that Start must be given.
func (p *Program) Inputs() (names []string) {
	for _, r := range p.inputs[1:] {
		names = append(names, p.regs[r])
	}
	return names
}

// Reg makes a register; names need not be unique, they are for reading.
func (p *Program) Reg(name string) Reg {
	p.regs = append(p.regs, name)
	return Reg(len(p.regs) - 1)
}

// Label says what the following ops are for; it is the text of their errors:
// "mount proc on /proc".
func (p *Program) Label(format string, args ...any) { p.label = fmt.Sprintf(format, args...) }

// Op is one call of a program.
type Op struct {
	name     string
	nr       uintptr
	args     []Arg
	out      Reg
	tolerate []unix.Errno
	note     bool
	label    string
	detail   string // see Detail
	skipOK   int    // ops to leave out when the call succeeds
	skipErr  int    // ops to leave out when it fails in a tolerated way
}

// Tolerate lets the program go on when the call fails with one of these.
func (o *Op) Tolerate(errs ...unix.Errno) *Op {
	o.tolerate = append(o.tolerate, errs...)
	return o
}

// Note makes a tolerated failure known to the parent; see Process.Notes.
func (o *Op) Note() *Op {
	o.note = true
	return o
}

// IfOK adds ops that run only when o, the last op so far, succeeds.
func (p *Program) IfOK(o *Op, then func()) {
	n := len(p.ops)
	then()
	o.skipErr = len(p.ops) - n
}

// IfFailed adds ops that run only when o, the last op so far, fails in a
// tolerated way.
func (p *Program) IfFailed(o *Op, then func()) {
	n := len(p.ops)
	then()
	o.skipOK = len(p.ops) - n
}

// IfElse adds ops that run when o, the last op so far, succeeds, and others that run when it
// fails in a tolerated way.
func (p *Program) IfElse(o *Op, ok, failed func()) {
	n := len(p.ops)
	failed()
	skip := p.Call("skip", opSkip)
	o.skipOK = len(p.ops) - n
	n = len(p.ops)
	ok()
	skip.skipOK = len(p.ops) - n
}

// Detail adds to the text of this op's error.
func (o *Op) Detail(format string, args ...any) *Op {
	o.detail = ": " + fmt.Sprintf(format, args...)
	return o
}

func (p *Program) add(name string, nr uintptr, out Reg, args ...Arg) *Op {
	o := &Op{name: name, nr: nr, args: args, out: out, label: p.label}
	p.ops = append(p.ops, o)
	return o
}

// Call adds a system call without a result.
func (p *Program) Call(name string, nr uintptr, args ...Arg) *Op {
	return p.add(name, nr, noReg, args...)
}

// CallTo adds a system call whose result goes to a register.
func (p *Program) CallTo(out Reg, name string, nr uintptr, args ...Arg) *Op {
	return p.add(name, nr, out, args...)
}

// Len is the number of ops.
func (p *Program) Len() int { return len(p.ops) }

// Arg is an argument of a call: a number, a register's content, or the address
// of data.
type Arg struct {
	num  uint64
	reg  Reg // valid when isReg
	is   argKind
	data *data
	text string
}

type argKind uint8

const (
	argNum argKind = iota
	argReg
	argData
)

// data is memory that an argument points to; ptrs are places in it that hold
// the address of other data.
type data struct {
	b    []byte
	ptrs []pointer
}

type pointer struct {
	at int
	to *data
}

// Num is a number that prints in decimal.
func Num[T ~int | ~uint | ~int64 | ~uint32 | ~uint64 | ~uintptr](v T) Arg {
	return Arg{num: uint64(v), text: fmt.Sprint(v)}
}

// Named is a number that prints as text.
func Named[T ~int | ~uint | ~int64 | ~uint32 | ~uint64 | ~uintptr](v T, text string) Arg {
	return Arg{num: uint64(v), text: text}
}

// From is a register's content.
func From(r Reg) Arg { return Arg{is: argReg, reg: r} }

// Str is the address of a NUL-terminated copy of s.
func Str(s string) Arg {
	return Arg{is: argData, data: cstring(s), text: quote(s)}
}

// Bytes is the address of a copy of b, which prints as text.
func Bytes(b []byte, text string) Arg {
	return Arg{is: argData, data: &data{b: slices.Clone(b)}, text: text}
}

// Buffer is the address of size bytes that start with s and a NUL, for an op to
// write to.
func Buffer(s string, size int, text string) Arg {
	b := make([]byte, max(size, len(s)+1))
	copy(b, s)
	return Arg{is: argData, data: &data{b: b}, text: text}
}

// Strs is the address of a NULL-terminated array of NUL-terminated strings:
// copies of list, then what more points to.
func Strs(list []string, text string, more ...Arg) Arg {
	d := &data{b: make([]byte, 8*(len(list)+len(more)+1))}
	for i, s := range list {
		d.ptrs = append(d.ptrs, pointer{8 * i, cstring(s)})
	}
	for i, a := range more {
		d.ptrs = append(d.ptrs, pointer{8 * (len(list) + i), a.data})
	}
	return Arg{is: argData, data: d, text: text}
}

func cstring(s string) *data { return &data{b: append([]byte(s), 0)} }
