package validate

import (
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// seccomp checks the words of a filter; what they compile to is the compiler's.
func (c *checker) seccomp(s *specs.LinuxSeccomp) {
	if s == nil {
		return
	}
	const f = "linux.seccomp"
	c.action(f+".defaultAction", s.DefaultAction)
	if s.DefaultAction == specs.ActNotify {
		c.add(f+".defaultAction", "can't be SCMP_ACT_NOTIFY, nobody could answer")
	}
	c.errno(f+".defaultErrnoRet", s.DefaultErrnoRet)
	for i, a := range s.Architectures {
		if !strings.HasPrefix(string(a), "SCMP_ARCH_") {
			c.add(at(f+".architectures", i), "unknown architecture %q", clip(string(a)))
		}
	}
	for i, flag := range s.Flags {
		known(c, at(f+".flags", i), "flag", flag, specs.LinuxSeccompFlagLog, specs.LinuxSeccompFlagSpecAllow,
			specs.LinuxSeccompFlagWaitKillableRecv, "SECCOMP_FILTER_FLAG_TSYNC")
	}
	if s.ListenerPath != "" {
		c.absolute(f+".listenerPath", s.ListenerPath)
	} else if s.ListenerMetadata != "" {
		c.add(f+".listenerMetadata", "only with listenerPath")
	}
	for i, call := range s.Syscalls {
		c.syscall(at(f+".syscalls", i), call)
	}
}

func (c *checker) syscall(f string, s specs.LinuxSyscall) {
	c.action(f+".action", s.Action)
	c.errno(f+".errnoRet", s.ErrnoRet)
	if len(s.Names) == 0 {
		c.add(f+".names", "empty")
	}
	for i, n := range s.Names {
		if n == "" {
			c.add(at(f+".names", i), "empty")
		}
	}
	for i, a := range s.Args {
		if a.Index > 5 {
			c.add(at(f+".args", i)+".index", "%d is not within 0 and 5", a.Index)
		}
		known(c, at(f+".args", i)+".op", "operator", a.Op, specs.OpNotEqual, specs.OpLessThan, specs.OpLessEqual,
			specs.OpEqualTo, specs.OpGreaterEqual, specs.OpGreaterThan, specs.OpMaskedEqual)
	}
}

func (c *checker) action(f string, a specs.LinuxSeccompAction) {
	known(c, f, "action", a, specs.ActKill, specs.ActKillProcess, specs.ActKillThread, specs.ActTrap, specs.ActErrno,
		specs.ActTrace, specs.ActAllow, specs.ActLog, specs.ActNotify)
}

// errno bounds what the 16 data bits of a filter's answer hold.
func (c *checker) errno(f string, e *uint) {
	if e != nil && *e > 0xffff {
		c.add(f, "%d is more than 65535", *e)
	}
}
