package cgroup

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// The fields of struct bpf_cgroup_dev_ctx.
const (
	ctxAccess = 0 // access bits << 16 | device type
	ctxMajor  = 4
	ctxMinor  = 8
)

// deviceProgram compiles rules to a BPF_PROG_TYPE_CGROUP_DEVICE program: from
// the last rule to the first, each access bit is decided by the first rule that
// speaks of it; what no rule allows is denied. Four to seven instructions a rule.
// A verdict that nothing leads to is left out: the kernel refuses dead code.
func deviceProgram(rules []deviceRule) asm.Instructions {
	const kind, want, major, minor, tmp = asm.R2, asm.R3, asm.R4, asm.R5, asm.R6
	prog := asm.Instructions{
		asm.LoadMem(kind, asm.R1, ctxAccess, asm.Word),
		asm.Mov.Reg(want, kind),
		asm.And.Imm(kind, 0xffff),
		asm.RSh.Imm(want, 16),
		asm.LoadMem(major, asm.R1, ctxMajor, asm.Word),
		asm.LoadMem(minor, asm.R1, ctxMinor, asm.Word),
	}
	label, reached := "", map[string]bool{}
	add := func(in asm.Instruction) {
		reached[in.Reference()] = true
		if label != "" {
			in = in.WithSymbol(label)
			label = ""
		}
		prog = append(prog, in)
	}
	open := true // the last rule may leave something undecided
	for i, r := range slices.Backward(rules) {
		next := fmt.Sprintf("rule%d", i-1)
		if i == 0 {
			next = "deny"
		}
		if r.whole() { // decides all that is left; no earlier rule is reached
			verdict := "deny"
			if r.allow {
				verdict = "allow"
			}
			add(asm.Ja.Label(verdict))
			open = false
			break
		}
		switch r.kind {
		case 'b':
			add(asm.JNE.Imm(kind, unix.BPF_DEVCG_DEV_BLOCK, next))
		case 'c':
			add(asm.JNE.Imm(kind, unix.BPF_DEVCG_DEV_CHAR, next))
		}
		if r.major != anyNumber {
			add(asm.JNE.Imm(major, int32(r.major), next))
		}
		if r.minor != anyNumber {
			add(asm.JNE.Imm(minor, int32(r.minor), next))
		}
		if r.allow {
			add(asm.And.Imm(want, int32(mayAll&^r.access)))
			add(asm.JEq.Imm(want, 0, "allow"))
		} else {
			add(asm.Mov.Reg(tmp, want))
			add(asm.And.Imm(tmp, int32(r.access)))
			add(asm.JNE.Imm(tmp, 0, "deny"))
		}
		if i > 0 {
			label = next
		}
	}
	if open || reached["deny"] {
		prog = append(prog, asm.Mov.Imm(asm.R0, 0).WithSymbol("deny"), asm.Return())
	}
	if reached["allow"] {
		prog = append(prog, asm.Mov.Imm(asm.R0, 1).WithSymbol("allow"), asm.Return())
	}
	return prog
}

// allowsAll says whether rules deny nothing, so that no program need be asked.
func allowsAll(rules []deviceRule) bool {
	for _, r := range slices.Backward(rules) {
		if !r.allow {
			return false
		}
		if r.whole() {
			return true
		}
	}
	return false
}

// attachDevices makes rules the device rules of a v2 directory, in place of those
// attached before: with one there, the kernel swaps the two at once; with
// several, the new one is in force before the old ones go. Rules that deny nothing
// need none.
func attachDevices(dir string, rules []deviceRule) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	fd := int(d.Fd())
	if allowsAll(rules) {
		return detachAll(fd)
	}
	prog, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "gantry_devices", Type: ebpf.CGroupDevice, License: "Apache-2.0",
		Instructions: deviceProgram(rules),
	})
	if err != nil {
		return fmt.Errorf("load the device filter: %w", err)
	}
	defer prog.Close() // attached, the kernel keeps it
	old, err := attached(fd)
	if err != nil {
		return err
	}
	defer closeAll(old)
	opts := link.RawAttachProgramOptions{
		Target: fd, Program: prog, Attach: ebpf.AttachCGroupDevice, Flags: unix.BPF_F_ALLOW_MULTI,
	}
	if len(old) == 1 {
		opts.Anchor = link.ReplaceProgram(old[0])
	}
	if err := link.RawAttachProgram(opts); err != nil {
		return fmt.Errorf("attach the device filter: %w", err)
	}
	if len(old) == 1 {
		return nil
	}
	return detach(fd, old)
}

// detachAll leaves a directory without programs. Who may not even ask for them has
// attached none.
func detachAll(dir int) error {
	old, err := attached(dir)
	if errors.Is(err, ebpf.ErrNotSupported) || errors.Is(err, unix.EPERM) {
		return nil
	}
	if err != nil {
		return err
	}
	defer closeAll(old)
	return detach(dir, old)
}

// detach takes programs off a directory.
func detach(dir int, ps []*ebpf.Program) (err error) {
	for _, p := range ps {
		e := link.RawDetachProgram(link.RawDetachProgramOptions{Target: dir, Program: p, Attach: ebpf.AttachCGroupDevice})
		if e != nil && !errors.Is(e, unix.ENOENT) { // gone meanwhile, with systemd's own rules for one
			err = errors.Join(err, fmt.Errorf("detach a device filter: %w", e))
		}
	}
	return err
}

// attached opens the device programs of a directory.
func attached(dir int) (ps []*ebpf.Program, err error) {
	res, err := link.QueryPrograms(link.QueryOptions{Target: dir, Attach: ebpf.AttachCGroupDevice})
	if err != nil {
		return nil, fmt.Errorf("query device filters: %w", err)
	}
	for _, at := range res.Programs {
		p, err := ebpf.NewProgramFromID(at.ID)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			closeAll(ps)
			return nil, fmt.Errorf("open a device filter: %w", err)
		}
		ps = append(ps, p)
	}
	return ps, nil
}

func closeAll(ps []*ebpf.Program) {
	for _, p := range ps {
		p.Close()
	}
}
