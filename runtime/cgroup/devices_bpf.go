package cgroup

import (
	"errors"
	"fmt"
	"os"
	"slices"

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
func deviceProgram(rules []deviceRule) ([]insn, error) {
	const context, kind, want, major, minor, tmp reg = 1, 2, 3, 4, 5, 6
	a := newAssembler()
	a.load(kind, context, ctxAccess)
	a.move(want, kind)
	a.alu(unix.BPF_AND, kind, 0xffff)
	a.alu(unix.BPF_RSH, want, 16)
	a.load(major, context, ctxMajor)
	a.load(minor, context, ctxMinor)
	open := true // the last rule may leave something undecided
	for i, r := range slices.Backward(rules) {
		next := fmt.Sprintf("rule%d", i-1)
		if i == 0 {
			next = "deny"
		}
		if r.kind == 'a' && r.major == anyNumber && r.minor == anyNumber && r.access == mayAll {
			a.jump(unix.BPF_JA, 0, 0, verdict(r.allow)) // decides all that is left; no earlier rule is reached
			open = false
			break
		}
		switch r.kind {
		case 'b':
			a.jump(unix.BPF_JNE, kind, unix.BPF_DEVCG_DEV_BLOCK, next)
		case 'c':
			a.jump(unix.BPF_JNE, kind, unix.BPF_DEVCG_DEV_CHAR, next)
		}
		if r.major != anyNumber {
			a.jump(unix.BPF_JNE, major, int32(r.major), next)
		}
		if r.minor != anyNumber {
			a.jump(unix.BPF_JNE, minor, int32(r.minor), next)
		}
		if r.allow {
			a.alu(unix.BPF_AND, want, int32(mayAll&^r.access))
			a.jump(unix.BPF_JEQ, want, 0, "allow")
		} else {
			a.move(tmp, want)
			a.alu(unix.BPF_AND, tmp, int32(r.access))
			a.jump(unix.BPF_JNE, tmp, 0, "deny")
		}
		if i > 0 {
			a.label(next)
		}
	}
	if open || a.reached("deny") {
		a.label("deny")
		a.exit(0)
	}
	if a.reached("allow") {
		a.label("allow")
		a.exit(1)
	}
	return a.link()
}

func verdict(allow bool) string {
	if allow {
		return "allow"
	}
	return "deny"
}

// attachDevices makes rules the device rules of a v2 directory, in place of those
// attached before: with one there, the kernel swaps the two at once; with
// several, the new one is in force before the old ones go.
func attachDevices(dir string, rules []deviceRule) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	code, err := deviceProgram(rules)
	if err != nil {
		return fmt.Errorf("compile the device filter: %w", err)
	}
	prog, err := loadProgram("gantry_devices", code)
	if err != nil {
		return fmt.Errorf("load the device filter: %w", err)
	}
	defer prog.Close() // attached, the kernel keeps it
	old, err := attached(d)
	if err != nil {
		return err
	}
	defer closeAll(old)
	var replaced *os.File
	if len(old) == 1 {
		replaced = old[0]
	}
	if err := attachProgram(d, prog, replaced); err != nil {
		return fmt.Errorf("attach the device filter: %w", err)
	}
	if len(old) < 2 {
		return nil
	}
	for _, p := range old {
		if e := detachProgram(d, p); e != nil {
			err = errors.Join(err, fmt.Errorf("detach an old device filter: %w", e))
		}
	}
	return err
}
