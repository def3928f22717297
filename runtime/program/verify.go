package program

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Verify says what is wrong with a program that was put together badly: a register that
// nothing has filled, a branch that leads beyond the end, an end that is none, too much of
// something, or a path that depends on the working directory, which may be the caller's,
// and as a string might be the container's. Nothing needs it to run.
func (p *Program) Verify() error {
	if len(p.ops) == 0 {
		return fmt.Errorf("program is empty")
	}
	if p.bornAway() && slices.ContainsFunc(p.ops, func(o *Op) bool { return o.nr == opForkOn }) {
		return fmt.Errorf("a child of another pid namespace clones, whose child the parent would not find")
	}
	filled := map[Reg]bool{}
	for _, r := range append([]Reg{p.Clone.Cgroup, p.Clone.PidNS}, p.inputs...) {
		filled[r] = true
	}
	for i, o := range p.ops {
		if err := p.verify(o, i, filled); err != nil {
			return fmt.Errorf("op %d, %s: %w", i, p.opText(o), err)
		}
		if o.out != noReg {
			filled[o.out] = true
		}
	}
	if last := p.ops[len(p.ops)-1].nr; last != opExecve && last != opExit {
		return fmt.Errorf("program ends with %s", p.ops[len(p.ops)-1].name)
	}
	return nil
}

// bornAway says whether the child has another pid namespace than its parent.
func (p *Program) bornAway() bool {
	return p.Clone.PidNS != 0 || p.Clone.Flags&unix.CLONE_NEWPID != 0
}

func (p *Program) verify(o *Op, i int, filled map[Reg]bool) error {
	var in instruction
	switch {
	case len(o.args) > len(in.args):
		return fmt.Errorf("%d arguments", len(o.args))
	case len(o.tolerate) > len(in.tolerate):
		return fmt.Errorf("%d tolerated errors", len(o.tolerate))
	case o.skipOK < 0 || o.skipErr < 0 || i+1+max(o.skipOK, o.skipErr) > len(p.ops):
		return fmt.Errorf("branches to %d of %d", i+1+max(o.skipOK, o.skipErr), len(p.ops))
	case int(o.out) >= len(p.regs) || o.out < noReg || o.out == regSync:
		return fmt.Errorf("result in register %d", o.out)
	}
	for k, a := range o.args {
		switch {
		case a.is == argReg && (a.reg < 0 || int(a.reg) >= len(p.regs) || !filled[a.reg] && o.nr != opIsSet):
			return fmt.Errorf("argument %d is a register that is empty", k)
		case a.is == argData && a.data == nil:
			return fmt.Errorf("argument %d is nothing", k)
		case a.is == argNum && a.num == cwd && o.nr < opPseudo && o.relativeAt(k+1):
			return fmt.Errorf("the path depends on the working directory")
		}
	}
	return p.verifyList(o, filled)
}

// relativeAt says whether argument k is a path that does not begin with a slash.
func (o *Op) relativeAt(k int) bool {
	return k >= len(o.args) || o.args[k].is != argData || !strings.HasPrefix(string(o.args[k].data.b), "/")
}

// verifyList looks at the registers that Keep and CloseAllBut list.
func (p *Program) verifyList(o *Op, filled map[Reg]bool) error {
	if o.nr != opKeep && o.nr != opCloseAllBut {
		return nil
	}
	b := o.args[1].data.b
	for k := range len(b) / 8 {
		r := Reg(binary.NativeEndian.Uint64(b[8*k:]))
		if !filled[r] {
			return fmt.Errorf("keeps register %d, which is empty", r)
		}
	}
	return nil
}
