package validate

import (
	"slices"
	"strings"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/security/rlimit"
)

// process leaves capabilities alone: a name that nobody knows is left out later, with a
// warning.
func (c *checker) process(f string, p *specs.Process) {
	if len(p.Args) == 0 {
		c.add(f+".args", "empty")
	}
	for i, a := range p.Args {
		c.text(at(f+".args", i), a)
	}
	c.env(f+".env", p.Env)
	c.absolute(f+".cwd", p.Cwd)
	if m := p.User.Umask; m != nil && *m > 0o777 {
		c.add(f+".user.umask", "%#o is more than 0777", *m)
	}
	c.rlimits(f+".rlimits", p.Rlimits)
	if a := p.OOMScoreAdj; a != nil && (*a < -1000 || *a > 1000) {
		c.add(f+".oomScoreAdj", "%d is not within -1000 and 1000", *a)
	}
	c.text(f+".apparmorProfile", p.ApparmorProfile)
	c.text(f+".selinuxLabel", p.SelinuxLabel)
	c.scheduler(f+".scheduler", p.Scheduler)
	c.ioPriority(f+".ioPriority", p.IOPriority)
	if a := p.ExecCPUAffinity; a != nil {
		c.numbers(f+".execCPUAffinity.initial", a.Initial)
		c.numbers(f+".execCPUAffinity.final", a.Final)
	}
}

func (c *checker) env(f string, env []string) {
	for i, e := range env {
		c.text(at(f, i), e)
		if strings.IndexByte(e, '=') <= 0 {
			c.add(at(f, i), "%q is not NAME=VALUE", clip(e))
		}
	}
}

func (c *checker) rlimits(f string, list []specs.POSIXRlimit) {
	seen := map[string]bool{}
	for i, l := range list {
		f := at(f, i)
		if _, ok := rlimit.Number(l.Type); !ok {
			c.add(f+".type", "unknown rlimit %q", clip(l.Type))
		}
		if seen[l.Type] {
			c.add(f+".type", "%q is given twice", clip(l.Type))
		}
		seen[l.Type] = true
		if l.Soft > l.Hard {
			c.add(f, "soft limit %d is above the hard limit %d", l.Soft, l.Hard)
		}
	}
}

func (c *checker) scheduler(f string, s *specs.Scheduler) {
	if s == nil {
		return
	}
	known(c, f+".policy", "policy", s.Policy, specs.SchedOther, specs.SchedFIFO, specs.SchedRR,
		specs.SchedBatch, specs.SchedISO, specs.SchedIdle, specs.SchedDeadline)
	for i, flag := range s.Flags {
		known(c, at(f+".flags", i), "flag", flag, specs.SchedFlagResetOnFork, specs.SchedFlagReclaim,
			specs.SchedFlagDLOverrun, specs.SchedFlagKeepPolicy, specs.SchedFlagKeepParams,
			specs.SchedFlagUtilClampMin, specs.SchedFlagUtilClampMax)
	}
	if s.Nice < -20 || s.Nice > 19 {
		c.add(f+".nice", "%d is not within -20 and 19", s.Nice)
	}
	realtime := s.Policy == specs.SchedFIFO || s.Policy == specs.SchedRR
	if s.Priority != 0 && !realtime {
		c.add(f+".priority", "only with SCHED_FIFO and SCHED_RR")
	}
	if s.Priority < 0 || s.Priority > 99 {
		c.add(f+".priority", "%d is not within 0 and 99", s.Priority)
	}
	if s.Policy != specs.SchedDeadline && (s.Runtime != 0 || s.Deadline != 0 || s.Period != 0) {
		c.add(f, "runtime, deadline and period only with SCHED_DEADLINE")
	}
}

func (c *checker) ioPriority(f string, p *specs.LinuxIOPriority) {
	if p == nil {
		return
	}
	known(c, f+".class", "class", p.Class, specs.IOPRIO_CLASS_RT, specs.IOPRIO_CLASS_BE, specs.IOPRIO_CLASS_IDLE)
	if p.Priority < 0 || p.Priority > 7 {
		c.add(f+".priority", "%d is not within 0 and 7", p.Priority)
	}
}

func (c *checker) hooks(h *specs.Hooks) {
	if h == nil {
		return
	}
	for i, list := range hookLists(h) {
		for k, hook := range list {
			c.hook(at("hooks."+hookNames[i], k), hook)
		}
	}
}

// hookNames name the lists of hookLists.
var hookNames = [...]string{"prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"}

func hookLists(h *specs.Hooks) [len(hookNames)][]specs.Hook {
	return [...][]specs.Hook{h.Prestart, h.CreateRuntime, h.CreateContainer, h.StartContainer, h.Poststart, h.Poststop} //nolint:staticcheck // still in use
}

// HookNames are the kinds of hooks in the order of a container's life.
func HookNames() []string { return hookNames[:] }

func (c *checker) hook(f string, h specs.Hook) {
	c.absolute(f+".path", h.Path)
	if slices.ContainsFunc(h.Args, func(a string) bool { return strings.IndexByte(a, 0) >= 0 }) {
		c.add(f+".args", "holds a NUL byte")
	}
	c.env(f+".env", h.Env)
	if h.Timeout != nil && *h.Timeout <= 0 {
		c.add(f+".timeout", "%d is not above 0", *h.Timeout)
	}
}
