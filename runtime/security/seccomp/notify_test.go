package seccomp

import (
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// strictness orders actions as the kernel does, the strictest first.
var strictness = []uint32{
	unix.SECCOMP_RET_KILL_PROCESS, unix.SECCOMP_RET_KILL_THREAD, unix.SECCOMP_RET_TRAP, unix.SECCOMP_RET_ERRNO,
	unix.SECCOMP_RET_USER_NOTIF, unix.SECCOMP_RET_TRACE, unix.SECCOMP_RET_LOG, unix.SECCOMP_RET_ALLOW,
}

// strictest is what the kernel makes of the answers of two filters.
func strictest(a, b uint32) uint32 {
	for _, s := range strictness {
		for _, r := range []uint32{a, b} {
			if r&unix.SECCOMP_RET_ACTION_FULL == s {
				return r
			}
		}
	}
	return b
}

// TestSplitMeansTheSame: both filters together decide as one would that could notify.
func TestSplitMeansTheSame(t *testing.T) {
	arg := func(i uint, op specs.LinuxSeccompOperator, v uint64) specs.LinuxSeccompArg {
		return specs.LinuxSeccompArg{Index: i, Op: op, Value: v}
	}
	for _, def := range []specs.LinuxSeccompAction{specs.ActAllow, specs.ActErrno, specs.ActKillProcess, specs.ActLog} {
		s := &specs.LinuxSeccomp{
			DefaultAction: def, Architectures: []specs.Arch{specs.ArchX86},
			Syscalls: []specs.LinuxSyscall{
				{Names: []string{"mkdir", "socket"}, Action: specs.ActNotify, Args: []specs.LinuxSeccompArg{arg(0, specs.OpEqualTo, 1)}},
				{Names: []string{"mkdir"}, Action: specs.ActErrno, Args: []specs.LinuxSeccompArg{arg(1, specs.OpGreaterThan, 7)}},
				{Names: []string{"socket", "connect"}, Action: specs.ActNotify},
				{Names: []string{"socket", "read", "mkdir"}, Action: specs.ActAllow},
				{Names: []string{"kill"}, Action: specs.ActKillThread},
			},
		}
		f, err := compile(s, specs.ArchX86_64)
		if err != nil {
			t.Fatal(err)
		}
		p, err := parse(s)
		if err != nil {
			t.Fatal(err)
		}
		rest, asking := load(t, f.Program), load(t, f.Notify)
		for _, audit := range []uint32{unix.AUDIT_ARCH_X86_64, unix.AUDIT_ARCH_I386} {
			for nr := range uint32(500) {
				for _, args := range [][6]uint64{{}, {1}, {1, 8}, {2, 8}, {1 << 32}} {
					got := strictest(asking.run(t, audit, nr, args), rest.run(t, audit, nr, args))
					if want := model(s, p, audit, nr, args, specs.ArchX86_64); got != want {
						t.Fatalf("default %s, arch %#x call %d arguments %v: %#x, want %#x", def, audit, nr, args, got, want)
					}
				}
			}
		}
	}
}

func TestLets(t *testing.T) {
	rule := func(a specs.LinuxSeccompAction, names ...string) specs.LinuxSyscall {
		return specs.LinuxSyscall{Names: names, Action: a}
	}
	some := rule(specs.ActErrno, "write")
	some.Args = []specs.LinuxSeccompArg{{Index: 0, Op: specs.OpEqualTo, Value: 3}}
	for _, c := range []struct {
		why   string
		def   specs.LinuxSeccompAction
		rules []specs.LinuxSyscall
		want  bool
	}{
		{"by default", specs.ActAllow, nil, true},
		{"logged", specs.ActLog, nil, true},
		{"not by default", specs.ActErrno, []specs.LinuxSyscall{rule(specs.ActAllow, "read")}, false},
		{"named", specs.ActErrno, []specs.LinuxSyscall{rule(specs.ActAllow, "read", "write")}, true},
		{"refused", specs.ActAllow, []specs.LinuxSyscall{rule(specs.ActKill, "write")}, false},
		{"the first rule without conditions", specs.ActErrno, []specs.LinuxSyscall{rule(specs.ActTrap, "write"), rule(specs.ActAllow, "write")}, false},
		{"a rule like the default is passed over", specs.ActErrno, []specs.LinuxSyscall{rule(specs.ActErrno, "write"), rule(specs.ActAllow, "write")}, true},
		{"a condition after the rule for all", specs.ActKill, []specs.LinuxSyscall{rule(specs.ActAllow, "write"), some}, false},
	} {
		if got := Lets(&specs.LinuxSeccomp{DefaultAction: c.def, Syscalls: c.rules}, "write"); got != c.want {
			t.Errorf("%s: %v", c.why, got)
		}
	}
}
