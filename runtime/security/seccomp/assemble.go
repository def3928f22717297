package seccomp

import (
	"fmt"
	"math"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// maxProgram is the kernel's BPF_MAXINSNS.
const maxProgram = 4096

// Offsets in struct seccomp_data.
const (
	offNr   = 0
	offArch = 4
	offArgs = 16
)

const (
	opLoad = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	opAnd  = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	opRet  = unix.BPF_RET | unix.BPF_K
	opJump = unix.BPF_JMP | unix.BPF_JA
	opJEq  = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	opJGt  = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	opJGe  = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
)

// pos is an instruction's place, counted from the program's end.
type pos int

// assembler writes a program from its end to its beginning: classic BPF jumps
// forward only, so that every target is there before what jumps to it.
type assembler struct {
	rev  []unix.SockFilter
	rets map[uint32]pos
	memo map[string]pos // rule chains by content
	room []call         // for profile.calls

	narrow bool // of the abi at work
}

func (a *assembler) emit(code uint16, k uint32, jt, jf uint8) pos {
	if len(a.rev) <= maxProgram { // one too many is kept, to be seen
		a.rev = append(a.rev, unix.SockFilter{Code: code, Jt: jt, Jf: jf, K: k})
	}
	return pos(len(a.rev) - 1)
}

func (a *assembler) full() bool { return len(a.rev) > maxProgram }

func (a *assembler) ret(val uint32) pos {
	if p, ok := a.rets[val]; ok {
		return p
	}
	p := a.emit(opRet, val, 0, 0)
	a.rets[val] = p
	return p
}

// then emits an instruction that goes on at next, which need not be the one
// emitted last.
func (a *assembler) then(code uint16, k uint32, next pos) pos {
	if int(next) != len(a.rev)-1 {
		a.hop(next)
	}
	return a.emit(code, k, 0, 0)
}

// hop emits a way to a far target: a copy, if it is a return, which then serves
// what comes after.
func (a *assembler) hop(to pos) pos {
	if in := a.rev[to]; in.Code == opRet {
		delete(a.rets, in.K)
		return a.ret(in.K)
	}
	return a.emit(opJump, uint32(len(a.rev)-int(to)-1), 0, 0)
}

// nearest gives the latest copy of a return.
func (a *assembler) nearest(p pos) pos {
	if in := a.rev[p]; in.Code == opRet {
		return a.ret(in.K)
	}
	return p
}

// branch emits a conditional jump.
func (a *assembler) branch(code uint16, k uint32, yes, no pos) pos {
	if yes == no {
		return yes
	}
	// Up to two hops may come between; the limit leaves room for both.
	far := func(p pos) bool { return len(a.rev)-int(p)-1 > math.MaxUint8-2 }
	yes, no = a.nearest(yes), a.nearest(no)
	if far(yes) {
		yes = a.hop(yes)
	}
	if far(no) {
		no = a.hop(no)
	}
	if a.full() {
		return pos(len(a.rev) - 1)
	}
	dist := func(p pos) uint8 { return uint8(len(a.rev) - int(p) - 1) }
	return a.emit(code, k, dist(yes), dist(no))
}

// condition emits the test of one argument, high half first. Of arguments of 32 bits
// the low half of the values alone counts.
func (a *assembler) condition(c condition, yes, no pos) pos {
	lo := uint32(offArgs + 8*c.arg)
	hi := lo + 4
	switch c.op {
	case specs.OpNotEqual:
		c.op = specs.OpEqualTo
		yes, no = no, yes
	case specs.OpLessThan:
		c.op = specs.OpGreaterEqual
		yes, no = no, yes
	case specs.OpLessEqual:
		c.op = specs.OpGreaterThan
		yes, no = no, yes
	}
	valHi, valLo := uint32(c.val>>32), uint32(c.val)
	switch c.op {
	case specs.OpMaskedEqual:
		p := a.masked(lo, valLo, uint32(c.val2), yes, no)
		if a.narrow {
			return p
		}
		return a.masked(hi, valHi, uint32(c.val2>>32), p, no)
	case specs.OpEqualTo:
		p := a.then(opLoad, lo, a.branch(opJEq, valLo, yes, no))
		if a.narrow {
			return p
		}
		return a.then(opLoad, hi, a.branch(opJEq, valHi, p, no))
	default:
		op := uint16(opJGt)
		if c.op == specs.OpGreaterEqual {
			op = opJGe
		}
		p := a.then(opLoad, lo, a.branch(op, valLo, yes, no))
		if a.narrow {
			return p
		}
		p = a.branch(opJEq, valHi, p, no)
		return a.then(opLoad, hi, a.branch(opJGt, valHi, yes, p))
	}
}

func (a *assembler) masked(off, mask, want uint32, yes, no pos) pos {
	switch {
	case want&^mask != 0:
		return no
	case mask == 0:
		return yes
	}
	p := a.branch(opJEq, want, yes, no)
	return a.then(opLoad, off, a.then(opAnd, mask, p))
}

// chain emits what happens to a call whose number has been found.
func (a *assembler) chain(c call) pos {
	if len(c.rules) == 0 {
		return a.ret(c.end)
	}
	key := chainKey(c, a.narrow)
	if p, ok := a.memo[key]; ok {
		return p
	}
	next := a.ret(c.end)
	for i := len(c.rules) - 1; i >= 0 && !a.full(); i-- {
		r := c.rules[i]
		p, no := a.ret(r.ret), next
		for j := len(r.conds) - 1; j >= 0 && !a.full(); j-- {
			p = a.condition(r.conds[j], p, no)
		}
		next = p
	}
	a.memo[key] = next
	return next
}

func chainKey(c call, narrow bool) string {
	key := fmt.Appendf(nil, "%t%x", narrow, c.end)
	for _, r := range c.rules {
		key = fmt.Appendf(key, ";%x", r.ret)
		for _, cd := range r.conds {
			key = fmt.Appendf(key, ",%d %s %x %x", cd.arg, cd.op, cd.val, cd.val2)
		}
	}
	return string(key)
}

// span is a range of numbers from first up to the next span's first.
type span struct {
	first uint32
	to    pos
}

// tree emits the search for a number in spans (sorted, the first begins at 0).
func (a *assembler) tree(spans []span) pos {
	if len(spans) == 1 || a.full() {
		return spans[0].to
	}
	mid := len(spans) / 2
	right, left := a.tree(spans[mid:]), a.tree(spans[:mid])
	return a.branch(opJGe, spans[mid].first, right, left)
}

// addSpans appends the numbers first..last of one abi: the calls that the
// profile speaks of, and what fills the gaps between them.
func (a *assembler) addSpans(spans []span, p *profile, ab abi, first, last uint32) []span {
	cs, highest, named := p.calls(ab.col, a.room)
	a.room, a.narrow = cs, ab.narrow
	add := func(nr uint32, to pos) {
		if n := len(spans); n == 0 || spans[n-1].to != to {
			spans = append(spans, span{nr, to})
		}
	}
	// gap fills from..end (exclusive): the default action up to the highest
	// number named, ENOSYS from there on.
	gap := func(from, end uint64) {
		edge := end
		if p.enosys && named {
			edge = min(end, uint64(highest)+1)
		}
		if from < edge {
			add(uint32(from), a.ret(p.fallback))
		}
		if from = max(from, edge); from < end {
			add(uint32(from), a.ret(unix.SECCOMP_RET_ERRNO|uint32(unix.ENOSYS)))
		}
	}
	next := uint64(first)
	for _, c := range cs {
		gap(next, uint64(c.nr))
		add(c.nr, a.chain(c))
		next = uint64(c.nr) + 1
	}
	gap(next, uint64(last)+1)
	return spans
}

// noCall is the number a tracer sets to have a call skipped; no call has it.
const noCall = math.MaxUint32

func (a *assembler) arch(p *profile, audit uint32, abis []abi) pos {
	spans := make([]span, 0, len(table))
	switch {
	case audit != unix.AUDIT_ARCH_X86_64:
		spans = a.addSpans(spans, p, abis[0], 0, noCall-1)
	default:
		spans = a.x86(spans, p, abis)
	}
	spans = append(spans, span{noCall, a.ret(p.fallback)})
	return a.then(opLoad, offNr, a.tree(spans))
}

// x86 fills both halves of AUDIT_ARCH_X86_64: without x32's bit, and with it. A
// half that the profile does not list kills.
func (a *assembler) x86(spans []span, p *profile, abis []abi) []span {
	for _, half := range []struct {
		col         int
		first, last uint32
	}{{colX86_64, 0, x32Bit - 1}, {colX32, x32Bit, noCall - 1}} {
		listed := false
		for _, ab := range abis {
			if ab.col == half.col {
				spans = a.addSpans(spans, p, ab, half.first, half.last)
				listed = true
			}
		}
		if !listed {
			spans = append(spans, span{half.first, a.ret(unix.SECCOMP_RET_KILL_PROCESS)})
		}
	}
	return spans
}

// assemble writes the whole program.
func (p *profile) assemble(abis []abi) ([]unix.SockFilter, error) {
	a := &assembler{
		rev: make([]unix.SockFilter, 0, 1024), room: make([]call, 0, len(table)),
		rets: map[uint32]pos{}, memo: map[string]pos{},
	}
	entry := a.ret(unix.SECCOMP_RET_KILL_PROCESS)
	for i := len(abis) - 1; i >= 0; i-- { // the native one is tested first
		audit := abis[i].audit
		group, first := sameAudit(abis, audit)
		if first != i {
			continue
		}
		entry = a.branch(opJEq, audit, a.arch(p, audit, group), entry)
		if a.full() {
			break
		}
	}
	a.then(opLoad, offArch, entry)
	if a.full() {
		return nil, fmt.Errorf("the profile needs more than the %d instructions that the kernel takes", maxProgram)
	}
	prog := make([]unix.SockFilter, len(a.rev))
	for i, in := range a.rev {
		prog[len(prog)-1-i] = in
	}
	return prog, nil
}

// sameAudit gives the abis of one audit architecture and the place of the first.
func sameAudit(abis []abi, audit uint32) (group []abi, first int) {
	first = -1
	for i, ab := range abis {
		if ab.audit == audit {
			if first < 0 {
				first = i
			}
			group = append(group, ab)
		}
	}
	return group, first
}
