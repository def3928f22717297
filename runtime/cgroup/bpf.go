package cgroup

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The eBPF that a device filter takes: a handful of instructions and five of bpf(2)'s
// commands. A library for all of eBPF would be a sixth of every shim's program.

// insn is struct bpf_insn.
type insn struct {
	op   uint8
	regs uint8 // two bit fields: see regs
	off  int16
	imm  int32
}

// reg is a register of eBPF.
type reg uint8

var bigEndian = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

// regs packs destination and source as C's bit fields of four are.
func regs(dst, src reg) uint8 {
	if bigEndian {
		dst, src = src, dst
	}
	return uint8(dst | src<<4)
}

// assembler collects instructions whose jumps name a label.
type assembler struct {
	code   []insn
	jumps  map[int]string // label by the jump's index
	labels map[string]int
}

func newAssembler() *assembler { return &assembler{jumps: map[int]string{}, labels: map[string]int{}} }

func (a *assembler) add(in insn) { a.code = append(a.code, in) }

// load sets dst to the 32-bit word at src+off.
func (a *assembler) load(dst, src reg, off int16) {
	a.add(insn{unix.BPF_LDX | unix.BPF_MEM | unix.BPF_W, regs(dst, src), off, 0})
}

func (a *assembler) move(dst, src reg) {
	a.add(insn{unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_X, regs(dst, src), 0, 0})
}

// alu is dst op= imm, where op is BPF_MOV, BPF_AND or BPF_RSH.
func (a *assembler) alu(op uint8, dst reg, imm int32) {
	a.add(insn{unix.BPF_ALU64 | op | unix.BPF_K, regs(dst, 0), 0, imm})
}

// jump goes to label if dst compares so with imm; op is BPF_JEQ, BPF_JNE or BPF_JA.
func (a *assembler) jump(op uint8, dst reg, imm int32, label string) {
	a.jumps[len(a.code)] = label
	a.add(insn{unix.BPF_JMP | op | unix.BPF_K, regs(dst, 0), 0, imm})
}

// label names the next instruction.
func (a *assembler) label(name string) { a.labels[name] = len(a.code) }

// reached says whether a jump goes to label.
func (a *assembler) reached(label string) bool {
	for _, to := range a.jumps {
		if to == label {
			return true
		}
	}
	return false
}

func (a *assembler) exit(result int32) {
	a.alu(unix.BPF_MOV, 0, result)
	a.add(insn{op: unix.BPF_JMP | unix.BPF_EXIT})
}

// link fills the distances of all jumps in.
func (a *assembler) link() ([]insn, error) {
	for at, label := range a.jumps {
		to, ok := a.labels[label]
		dist := to - at - 1
		if !ok || dist < 0 || dist > 1<<15-1 {
			return nil, fmt.Errorf("jump from instruction %d to %q", at, label)
		}
		a.code[at].off = int16(dist)
	}
	return a.code, nil
}

// bpf calls bpf(2) with a part of union bpf_attr. What attr points to is pinned by
// the caller. EAGAIN is a signal that came while the kernel verified a program.
func bpf[T any](cmd int, attr *T) (int, error) {
	for {
		n, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(cmd), uintptr(unsafe.Pointer(attr)), unsafe.Sizeof(*attr))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EAGAIN, unix.EINTR:
		default:
			return -1, errno
		}
	}
}

// progLoad is the part of bpf_attr for BPF_PROG_LOAD.
type progLoad struct {
	kind, count       uint32
	insns, license    uint64
	logLevel, logSize uint32
	log               uint64
	_, _              uint32 // kern_version, prog_flags
	name              [16]byte
}

// loadProgram lets the kernel verify a device filter and gives its descriptor. The
// verifier's last words are the error's text.
func loadProgram(name string, code []insn) (*os.File, error) {
	license := append([]byte("Apache-2.0"), 0)
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&code[0])
	pins.Pin(&license[0])
	attr := progLoad{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(code)),
		insns: address(&code[0]), license: address(&license[0]),
	}
	copy(attr.name[:len(attr.name)-1], name)
	fd, err := bpf(unix.BPF_PROG_LOAD, &attr)
	if err == nil {
		return os.NewFile(uintptr(fd), name), nil
	}
	words := make([]byte, 64<<10)
	pins.Pin(&words[0])
	attr.logLevel, attr.logSize, attr.log = 1, uint32(len(words)), address(&words[0])
	if fd, again := bpf(unix.BPF_PROG_LOAD, &attr); again == nil {
		return os.NewFile(uintptr(fd), name), nil
	}
	text, _, _ := strings.Cut(string(words), "\x00")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return nil, fmt.Errorf("%w: %s", err, lines[len(lines)-1])
}

func address[T any](p *T) uint64 { return uint64(uintptr(unsafe.Pointer(p))) }

// progAttach is that for BPF_PROG_ATTACH and BPF_PROG_DETACH.
type progAttach struct{ target, prog, kind, flags, replace uint32 }

// attachProgram makes prog one of a directory's device filters, in place of old where
// that is not nil.
func attachProgram(dir, prog, old *os.File) error {
	attr := progAttach{
		target: uint32(dir.Fd()), prog: uint32(prog.Fd()), kind: unix.BPF_CGROUP_DEVICE, flags: unix.BPF_F_ALLOW_MULTI,
	}
	if old != nil {
		attr.flags |= unix.BPF_F_REPLACE
		attr.replace = uint32(old.Fd())
	}
	_, err := bpf(unix.BPF_PROG_ATTACH, &attr)
	return err
}

func detachProgram(dir, prog *os.File) error {
	_, err := bpf(unix.BPF_PROG_DETACH, &progAttach{
		target: uint32(dir.Fd()), prog: uint32(prog.Fd()), kind: unix.BPF_CGROUP_DEVICE,
	})
	return err
}

// progQuery is that for BPF_PROG_QUERY.
type progQuery struct {
	target, kind uint32
	_, _         uint32 // query_flags, attach_flags
	ids          uint64
	count, _     uint32
}

// maxPrograms is how many the kernel lets a directory have of one kind.
const maxPrograms = 64

// attached opens the device filters of a directory; the caller closes them.
func attached(dir *os.File) (ps []*os.File, err error) {
	ids := make([]uint32, maxPrograms)
	var pins runtime.Pinner
	defer pins.Unpin()
	pins.Pin(&ids[0])
	q := progQuery{target: uint32(dir.Fd()), kind: unix.BPF_CGROUP_DEVICE, ids: address(&ids[0]), count: maxPrograms}
	if _, err := bpf(unix.BPF_PROG_QUERY, &q); err != nil {
		return nil, fmt.Errorf("query device filters: %w", err)
	}
	for _, id := range ids[:min(q.count, maxPrograms)] {
		fd, err := bpf(unix.BPF_PROG_GET_FD_BY_ID, &struct{ id, next, flags uint32 }{id: id})
		if errors.Is(err, unix.ENOENT) {
			continue
		}
		if err != nil {
			closeAll(ps)
			return nil, fmt.Errorf("open a device filter: %w", err)
		}
		ps = append(ps, os.NewFile(uintptr(fd), "device filter"))
	}
	return ps, nil
}

func closeAll(ps []*os.File) {
	for _, p := range ps {
		p.Close()
	}
}
