package seccomp

import (
	"encoding/binary"
	"errors"
	"math"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	mobyseccomp "github.com/moby/profiles/seccomp"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	allow  = unix.SECCOMP_RET_ALLOW
	kill   = uint32(unix.SECCOMP_RET_KILL_PROCESS)
	eperm  = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	enosys = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// machine runs a filter the way the kernel does, with the kernel's checks first.
type machine struct{ vm *bpf.VM }

func load(t testing.TB, prog []unix.SockFilter) machine {
	t.Helper()
	if n := len(prog); n < 1 || n > maxProgram {
		t.Fatalf("program of %d instructions", n)
	}
	raw := make([]bpf.RawInstruction, len(prog))
	for i, in := range prog {
		raw[i] = bpf.RawInstruction{Op: in.Code, Jt: in.Jt, Jf: in.Jf, K: in.K}
		checkInstruction(t, i, in)
	}
	insns, ok := bpf.Disassemble(raw)
	if !ok {
		t.Fatal("program does not disassemble")
	}
	vm, err := bpf.NewVM(insns)
	if err != nil {
		t.Fatal(err)
	}
	return machine{vm}
}

// checkInstruction holds a load to what seccomp_check_filter allows.
func checkInstruction(t testing.TB, i int, in unix.SockFilter) {
	t.Helper()
	switch in.Code {
	case opLoad:
		if in.K%4 != 0 || in.K > 60 {
			t.Fatalf("instruction %d loads at %d", i, in.K)
		}
	case opAnd, opRet, opJump, opJEq, opJGe, opJGt:
	default:
		t.Fatalf("instruction %d: code %#x", i, in.Code)
	}
}

// run gives the filter's answer. The VM reads big-endian, so the words are laid
// out that way; what matters is which word is where.
func (m machine) run(t testing.TB, audit, nr uint32, args [6]uint64) uint32 {
	t.Helper()
	b := binary.BigEndian.AppendUint32(nil, nr)
	b = binary.BigEndian.AppendUint32(b, audit)
	b = binary.BigEndian.AppendUint64(b, 0)
	for _, a := range args {
		b = binary.BigEndian.AppendUint32(b, uint32(a))
		b = binary.BigEndian.AppendUint32(b, uint32(a>>32))
	}
	n, err := m.vm.Run(b)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(n)
}

func errno(n uint) *uint { return &n }

func allowRule(names ...string) specs.LinuxSyscall {
	return specs.LinuxSyscall{Names: names, Action: specs.ActAllow}
}

func TestActions(t *testing.T) {
	for _, tc := range []struct {
		action specs.LinuxSeccompAction
		errno  *uint
		want   uint32
	}{
		{specs.ActKill, nil, unix.SECCOMP_RET_KILL_THREAD},
		{specs.ActKillThread, nil, unix.SECCOMP_RET_KILL_THREAD},
		{specs.ActKillProcess, nil, kill},
		{specs.ActTrap, nil, unix.SECCOMP_RET_TRAP},
		{specs.ActErrno, nil, eperm},
		{specs.ActErrno, errno(38), enosys},
		{specs.ActTrace, errno(7), unix.SECCOMP_RET_TRACE | 7},
		{specs.ActLog, nil, unix.SECCOMP_RET_LOG},
		{specs.ActNotify, nil, unix.SECCOMP_RET_USER_NOTIF},
	} {
		f, err := Compile(&specs.LinuxSeccomp{
			DefaultAction: specs.ActAllow,
			Syscalls:      []specs.LinuxSyscall{{Names: []string{"getpid"}, Action: tc.action, ErrnoRet: tc.errno}},
		})
		if err != nil {
			t.Fatalf("%s: %v", tc.action, err)
		}
		audit, getpid := nativeCall(t, "getpid")
		m := load(t, f.Program)
		if tc.action == specs.ActNotify {
			if got := m.run(t, audit, getpid, [6]uint64{}); got != allow {
				t.Errorf("beside a listener: %#x", got)
			}
			m = load(t, f.Notify)
		}
		if got := m.run(t, audit, getpid, [6]uint64{}); got != tc.want {
			t.Errorf("%s: %#x, want %#x", tc.action, got, tc.want)
		}
		if got := m.run(t, audit, getpid+1, [6]uint64{}); got != allow {
			t.Errorf("%s: default: %#x", tc.action, got)
		}
		if want := tc.action == specs.ActNotify; f.Notify != nil != want || f.NotifyFlags&unix.SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 != want {
			t.Errorf("%s: flags %#x", tc.action, f.NotifyFlags)
		}
	}
}

func nativeCall(t *testing.T, name string) (audit, nr uint32) {
	t.Helper()
	n, err := Native()
	if err != nil {
		t.Skip(err)
	}
	nr, ok := number(name, abis[n].col)
	if !ok {
		t.Fatalf("no %s on %s", name, n)
	}
	return abis[n].audit, nr
}

func TestConditions(t *testing.T) {
	const big = 0x1_0000_0005
	type try struct {
		arg  uint64
		want bool
	}
	for _, tc := range []struct {
		name      string
		op        specs.LinuxSeccompOperator
		val, val2 uint64
		tries     []try
	}{
		{"equal", specs.OpEqualTo, big, 0, []try{{big, true}, {5, false}, {big + 1<<32, false}, {big + 1, false}}},
		{"not equal", specs.OpNotEqual, big, 0, []try{{big, false}, {5, true}, {big + 1<<32, true}}},
		{"less", specs.OpLessThan, big, 0, []try{{big - 1, true}, {big, false}, {math.MaxUint32, true}, {2<<32 | 1, false}}},
		{"less or equal", specs.OpLessEqual, big, 0, []try{{big, true}, {big + 1, false}, {0, true}, {2 << 32, false}}},
		{"greater", specs.OpGreaterThan, big, 0, []try{{big, false}, {big + 1, true}, {2 << 32, true}, {math.MaxUint32, false}}},
		{"greater or equal", specs.OpGreaterEqual, big, 0, []try{{big, true}, {big - 1, false}, {2 << 32, true}}},
		{"unsigned", specs.OpGreaterThan, 0, 0, []try{{math.MaxUint64, true}, {0, false}}},
		{"masked", specs.OpMaskedEqual, 0xf0_0000_00f0, 0x10_0000_0020, []try{{0x10_0000_0020, true}, {0x1f_0000_002f, true}, {0x20, false}, {0x10_0000_0030, false}}},
		{"masked low half", specs.OpMaskedEqual, 0x7e020000, 0, []try{{0, true}, {0x11, true}, {0x10000000, false}, {1 << 40, true}}},
		{"mask never met", specs.OpMaskedEqual, 1, 2, []try{{2, false}, {3, false}}},
		{"empty mask", specs.OpMaskedEqual, 0, 0, []try{{7, true}}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for arg := range uint(6) {
				f, err := compile(&specs.LinuxSeccomp{
					DefaultAction: specs.ActTrap,
					Syscalls: []specs.LinuxSyscall{{Names: []string{"mmap"}, Action: specs.ActAllow,
						Args: []specs.LinuxSeccompArg{{Index: arg, Op: tc.op, Value: tc.val, ValueTwo: tc.val2}}}},
				}, specs.ArchX86_64)
				if err != nil {
					t.Fatal(err)
				}
				m := load(t, f.Program)
				for _, try := range tc.tries {
					var args [6]uint64
					args[arg] = try.arg
					got := m.run(t, unix.AUDIT_ARCH_X86_64, 9, args)
					if (got == allow) != try.want {
						t.Errorf("argument %d = %#x: %#x, want allowed %v", arg, try.arg, got, try.want)
					}
				}
			}
		})
	}
}

func TestRules(t *testing.T) {
	arg := func(i uint, op specs.LinuxSeccompOperator, v uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: i, Op: op, Value: v}
	}
	s := &specs.LinuxSeccomp{
		DefaultAction:   specs.ActErrno,
		DefaultErrnoRet: errno(1),
		Architectures:   []specs.Arch{specs.ArchX86_64, specs.ArchX86, specs.ArchX32},
		Syscalls: []specs.LinuxSyscall{
			{Names: []string{"socket"}, Action: specs.ActAllow, Args: []specs.LinuxSeccompArg{arg(0, specs.OpEqualTo, 1), arg(1, specs.OpEqualTo, 2)}},
			{Names: []string{"socket"}, Action: specs.ActErrno, ErrnoRet: errno(97), Args: []specs.LinuxSeccompArg{arg(0, specs.OpEqualTo, 1)}},
			{Names: []string{"socket"}, Action: specs.ActLog, Args: []specs.LinuxSeccompArg{arg(0, specs.OpLessThan, 5), arg(0, specs.OpEqualTo, 9)}},
			{Names: []string{"kill"}, Action: specs.ActAllow},
			{Names: []string{"kill"}, Action: specs.ActTrap},
			{Names: []string{"kill"}, Action: specs.ActErrno, ErrnoRet: errno(22), Args: []specs.LinuxSeccompArg{arg(1, specs.OpEqualTo, 9)}},
			{Names: []string{"ptrace"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{arg(0, specs.OpEqualTo, 0)}},
			allowRule("ptrace", "ioctl", "no_such_call", "_llseek", "statx"),
			{Names: []string{"seccomp_does_not_exist", "mseal"}, Action: specs.ActErrno},
		},
	}
	f, err := compile(s, specs.ArchX86_64)
	if err != nil {
		t.Fatal(err)
	}
	m := load(t, f.Program)
	const x64, x86 = unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386
	for _, tc := range []struct {
		why       string
		audit, nr uint32
		args      [6]uint64
		want      uint32
	}{
		{"all conditions hold", x64, 41, [6]uint64{1, 2}, allow},
		{"the first rule that holds", x64, 41, [6]uint64{1, 3}, unix.SECCOMP_RET_ERRNO | 97},
		{"either of two on one argument", x64, 41, [6]uint64{4}, unix.SECCOMP_RET_LOG},
		{"the other of two", x64, 41, [6]uint64{9}, unix.SECCOMP_RET_LOG},
		{"no condition holds", x64, 41, [6]uint64{6}, eperm},
		{"a condition before the rule for all", x64, 62, [6]uint64{1, 9}, unix.SECCOMP_RET_ERRNO | 22},
		{"the first rule for all", x64, 62, [6]uint64{1, 15}, allow},
		{"a rule like the default is passed over", x64, 101, [6]uint64{}, allow},
		{"not named", x64, 57, [6]uint64{}, eperm},
		{"named without effect", x64, 462, [6]uint64{}, eperm},
		{"above all that are named", x64, 463, [6]uint64{}, enosys},
		{"x86 by its own number", x86, 359, [6]uint64{1, 2}, allow},
		{"x86 only", x86, 140, [6]uint64{}, allow},
		{"x86-64 has another call there", x64, 140, [6]uint64{}, eperm},
		{"x32 with its bit", x64, x32Bit | 514, [6]uint64{}, allow},
		{"x32's number without its bit", x64, 514, [6]uint64{}, enosys},
		{"x32 shares most numbers", x64, x32Bit | 41, [6]uint64{1, 2}, allow},
		{"x32 has no such call", x64, x32Bit | 16, [6]uint64{}, eperm},
		{"skipped by a tracer", x64, noCall, [6]uint64{}, eperm},
		{"another architecture", unix.AUDIT_ARCH_AARCH64, 29, [6]uint64{}, kill},
	} {
		if got := m.run(t, tc.audit, tc.nr, tc.args); got != tc.want {
			t.Errorf("%s: %#x, want %#x", tc.why, got, tc.want)
		}
	}
}

func TestArchitectures(t *testing.T) {
	for _, tc := range []struct {
		why       string
		native    specs.Arch
		arches    []specs.Arch
		audit, nr uint32
		want      uint32
	}{
		{"native without being listed", specs.ArchX86_64, nil, unix.AUDIT_ARCH_X86_64, 0, allow},
		{"x32 not listed", specs.ArchX86_64, nil, unix.AUDIT_ARCH_X86_64, x32Bit, kill},
		{"x86 not listed", specs.ArchX86_64, nil, unix.AUDIT_ARCH_I386, 3, kill},
		{"x86 listed twice", specs.ArchX86_64, []specs.Arch{specs.ArchX86, specs.ArchX86}, unix.AUDIT_ARCH_I386, 3, allow},
		{"x32 alone on x86", specs.ArchX86, []specs.Arch{specs.ArchX32}, unix.AUDIT_ARCH_X86_64, 0, kill},
		{"x32 on x86", specs.ArchX86, []specs.Arch{specs.ArchX32}, unix.AUDIT_ARCH_X86_64, x32Bit, allow},
		{"aarch64", specs.ArchAARCH64, []specs.Arch{specs.ArchARM}, unix.AUDIT_ARCH_AARCH64, 63, allow},
		{"arm on aarch64", specs.ArchAARCH64, []specs.Arch{specs.ArchARM}, unix.AUDIT_ARCH_ARM, 3, allow},
		{"arm's own calls", specs.ArchAARCH64, []specs.Arch{specs.ArchARM}, unix.AUDIT_ARCH_ARM, 0xf0005, allow},
		{"arm's own calls don't count as the highest", specs.ArchAARCH64, []specs.Arch{specs.ArchARM}, unix.AUDIT_ARCH_ARM, 4, enosys},
		{"riscv64", specs.ArchRISCV64, nil, unix.AUDIT_ARCH_RISCV64, 63, allow},
	} {
		f, err := compile(&specs.LinuxSeccomp{
			DefaultAction: specs.ActErrno, Architectures: tc.arches,
			Syscalls: []specs.LinuxSyscall{allowRule("read", "set_tls")},
		}, tc.native)
		if err != nil {
			t.Fatalf("%s: %v", tc.why, err)
		}
		if got := load(t, f.Program).run(t, tc.audit, tc.nr, [6]uint64{}); got != tc.want {
			t.Errorf("%s: %#x, want %#x", tc.why, got, tc.want)
		}
	}
}

func TestNoENOSYSWhereTheDefaultIsPermissive(t *testing.T) {
	for _, def := range []specs.LinuxSeccompAction{specs.ActAllow, specs.ActLog, specs.ActTrace} {
		f, err := compile(&specs.LinuxSeccomp{DefaultAction: def,
			Syscalls: []specs.LinuxSyscall{{Names: []string{"read"}, Action: specs.ActKill}}}, specs.ArchX86_64)
		if err != nil {
			t.Fatal(err)
		}
		if got := load(t, f.Program).run(t, unix.AUDIT_ARCH_X86_64, 5000, [6]uint64{}); got == enosys {
			t.Errorf("%s: ENOSYS", def)
		}
	}
}

func TestFlags(t *testing.T) {
	notify := []specs.LinuxSyscall{{Names: []string{"mkdir"}, Action: specs.ActNotify}}
	for _, tc := range []struct {
		why   string
		flags []specs.LinuxSeccompFlag
		calls []specs.LinuxSyscall
		want  uint
		asks  uint
		warns int
	}{
		{"none given", nil, nil, unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW, 0, 0},
		{"an empty list", []specs.LinuxSeccompFlag{}, nil, 0, 0, 0},
		{"log and tsync", []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_TSYNC", specs.LinuxSeccompFlagLog}, nil, unix.SECCOMP_FILTER_FLAG_LOG, 0, 0},
		{"killable without a listener", []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}, nil, 0, 0, 1},
		{"killable", []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagWaitKillableRecv}, notify, 0, unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV | unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, 0},
		{"both filters log", []specs.LinuxSeccompFlag{specs.LinuxSeccompFlagLog}, notify, unix.SECCOMP_FILTER_FLAG_LOG, unix.SECCOMP_FILTER_FLAG_LOG | unix.SECCOMP_FILTER_FLAG_NEW_LISTENER, 0},
	} {
		f, err := compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Flags: tc.flags, Syscalls: tc.calls}, specs.ArchX86_64)
		if err != nil {
			t.Fatalf("%s: %v", tc.why, err)
		}
		if f.Flags != tc.want || f.NotifyFlags != tc.asks || len(f.Warnings) != tc.warns {
			t.Errorf("%s: flags %#x, warnings %q", tc.why, f.Flags, f.Warnings)
		}
	}
}

func TestRefused(t *testing.T) {
	one := func(c specs.LinuxSyscall) *specs.LinuxSeccomp {
		return &specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Syscalls: []specs.LinuxSyscall{c}}
	}
	var large []specs.LinuxSyscall
	for i := range uint64(2000) {
		large = append(large, specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActErrno,
			Args: []specs.LinuxSeccompArg{{Index: 0, Op: specs.OpEqualTo, Value: i << 31}}})
	}
	for text, s := range map[string]*specs.LinuxSeccomp{
		`default action: unknown action ""`:                       {},
		`unknown action "SCMP_ACT_X"`:                             one(specs.LinuxSyscall{Names: []string{"read"}, Action: "SCMP_ACT_X"}),
		"empty system call name":                                  one(specs.LinuxSyscall{Names: []string{""}, Action: specs.ActErrno}),
		"errno 4096 is above 4095":                                one(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActErrno, ErrnoRet: errno(4096)}),
		"calls have arguments 0 to 5":                             one(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Index: 6, Op: specs.OpEqualTo}}}),
		`unknown operator "=="`:                                   one(specs.LinuxSyscall{Names: []string{"read"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{{Op: "=="}}}),
		"SCMP_ACT_NOTIFY cannot be used as default action":        {DefaultAction: specs.ActNotify},
		"SCMP_ACT_NOTIFY cannot be used for the write syscall":    one(specs.LinuxSyscall{Names: []string{"write"}, Action: specs.ActNotify}),
		`unknown architecture "SCMP_ARCH_PDP11"`:                  {DefaultAction: specs.ActAllow, Architectures: []specs.Arch{"SCMP_ARCH_PDP11"}},
		`unknown flag "SECCOMP_FILTER_FLAG_X"`:                    {DefaultAction: specs.ActAllow, Flags: []specs.LinuxSeccompFlag{"SECCOMP_FILTER_FLAG_X"}},
		"needs more than the 4096 instructions that the kernel t": {DefaultAction: specs.ActAllow, Syscalls: large},
	} {
		_, err := compile(s, specs.ArchX86_64)
		if err == nil || !strings.Contains(err.Error(), text) || !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("want %q, got %v", text, err)
		}
	}
}

func TestForeignArchitectureWarns(t *testing.T) {
	f, err := compile(&specs.LinuxSeccomp{DefaultAction: specs.ActAllow, Architectures: []specs.Arch{specs.ArchS390X, "SCMP_ARCH_NATIVE"}}, specs.ArchX86_64)
	if err != nil || len(f.Warnings) != 1 || !strings.Contains(f.Warnings[0], "S390X") {
		t.Fatalf("%v %v", f, err)
	}
}

// model says what a profile means, without a program.
func model(s *specs.LinuxSeccomp, p *profile, audit, nr uint32, args [6]uint64, native specs.Arch) uint32 {
	as, _, _ := resolve(native, s.Architectures)
	for _, a := range as {
		if a.audit == audit && nr == noCall {
			return p.fallback
		}
		if a.audit != audit || audit == unix.AUDIT_ARCH_X86_64 && (nr >= x32Bit) != (a.col == colX32) {
			continue
		}
		highest, any, end, ended := uint32(0), false, p.fallback, false
		for _, r := range p.rules {
			hit := false
			for _, n := range r.names {
				if k, ok := number(n, a.col); ok {
					hit = hit || k == nr
					if k&^x32Bit < 0xf0000 {
						highest, any = max(highest, k), true
					}
				}
			}
			switch {
			case !hit || r.without:
			case len(r.conds) == 0 && !ended:
				end, ended = r.ret, true
			}
		}
		for _, r := range p.rules {
			if len(r.conds) > 0 && !r.without && names(r, a.col, nr) && holds(r.conds, args, a.narrow) {
				return r.ret
			}
		}
		if !ended && any && p.enosys && nr > highest && !spoken(p, a.col, nr) {
			return enosys
		}
		return end
	}
	return kill
}

func names(r rule, col int, nr uint32) bool {
	for _, n := range r.names {
		if k, ok := number(n, col); ok && k == nr {
			return true
		}
	}
	return false
}

func spoken(p *profile, col int, nr uint32) bool {
	for _, r := range p.rules {
		if !r.without && names(r, col, nr) {
			return true
		}
	}
	return false
}

func holds(cs []condition, args [6]uint64, narrow bool) bool {
	for _, c := range cs {
		v := args[c.arg]
		if narrow {
			v, c.val, c.val2 = v&math.MaxUint32, c.val&math.MaxUint32, c.val2&math.MaxUint32
		}
		ok := map[specs.LinuxSeccompOperator]bool{
			specs.OpNotEqual: v != c.val, specs.OpLessThan: v < c.val, specs.OpLessEqual: v <= c.val,
			specs.OpEqualTo: v == c.val, specs.OpGreaterEqual: v >= c.val, specs.OpGreaterThan: v > c.val,
			specs.OpMaskedEqual: v&c.val == c.val2,
		}[c.op]
		if !ok {
			return false
		}
	}
	return true
}

func defaultProfile(t testing.TB) *specs.LinuxSeccomp {
	t.Helper()
	spec := &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: []string{"CAP_CHOWN"}}}}
	s, err := mobyseccomp.GetDefaultProfile(spec)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestDefaultProfileAgainstModel(t *testing.T) {
	s := defaultProfile(t)
	native, err := Native()
	if err != nil {
		t.Skip(err)
	}
	f, err := Compile(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d instructions", len(f.Program))
	if len(f.Program) > 1000 {
		t.Errorf("%d instructions: the spans no longer merge", len(f.Program))
	}
	p, _ := parse(s)
	m := load(t, f.Program)
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, audit := range []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386, unix.AUDIT_ARCH_AARCH64, unix.AUDIT_ARCH_ARM} {
		for _, base := range []uint32{0, x32Bit, 0xf0000, noCall - 500} {
			for i := range uint32(560) {
				for _, arg := range []uint64{0, 8, 0x20000, 38, 40, 0x10000000, math.MaxUint32, rnd.Uint64()} {
					args := [6]uint64{arg, arg}
					nr := base + i
					if got, want := m.run(t, audit, nr, args), model(s, p, audit, nr, args, native); got != want {
						t.Fatalf("arch %#x call %#x argument %#x: %#x, want %#x", audit, nr, arg, got, want)
					}
				}
			}
		}
	}
}

// TestTableAgainstHeaders compares with the kernel's own headers where they are
// installed; what is newer than the older of the two is passed over.
func TestTableAgainstHeaders(t *testing.T) {
	define := regexp.MustCompile(`(?m)^#define __NR_(\w+) (?:\(__X32_SYSCALL_BIT \+ )?(\d+)\)?$`)
	for file, col := range map[string]int{"unistd_64.h": colX86_64, "unistd_32.h": colX86, "unistd_x32.h": colX32} {
		b, err := os.ReadFile("/usr/include/x86_64-linux-gnu/asm/" + file)
		if err != nil {
			t.Skipf("needs the kernel's headers: %v", err)
		}
		ms := define.FindAllStringSubmatch(string(b), -1)
		if len(ms) < 300 {
			t.Fatalf("%s: only %d calls found", file, len(ms))
		}
		in := map[string]bool{}
		for _, d := range ms {
			want, _ := strconv.Atoi(d[2])
			if col == colX32 {
				want |= x32Bit
			}
			in[d[1]] = true
			if got, ok := number(d[1], col); ok && got != uint32(want) || !ok && want&^x32Bit < 440 {
				t.Errorf("%s: %s is %d, table has %d", file, d[1], want, got)
			}
		}
		in["uprobe"], in["uretprobe"] = true, true // late calls with low numbers
		for _, r := range table {
			if nr := r.nr[col]; nr >= 0 && nr&^x32Bit < 440 && !in[r.name] {
				t.Errorf("%s lacks %s", file, r.name)
			}
		}
	}
}

// number gives a call's number on an architecture.
func number(name string, col int) (uint32, bool) {
	i, ok := find(name)
	if !ok || table[i].nr[col] < 0 {
		return 0, false
	}
	return uint32(table[i].nr[col]), true
}
