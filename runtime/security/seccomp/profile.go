package seccomp

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// profile is a checked specs.LinuxSeccomp, actions turned to return values.
type profile struct {
	fallback uint32 // the default action
	enosys   bool   // calls above the highest that is named get ENOSYS
	rules    []rule
}

// rule is one way to leave the filter for the calls it names.
type rule struct {
	names   []string
	rows    []int       // of table, for the names that it has
	conds   []condition // all have to hold; none: always
	ret     uint32
	without bool // same as the default: counts for its names only
}

// condition compares one argument, unsigned, 64 bits.
type condition struct {
	arg  uint
	op   specs.LinuxSeccompOperator
	val  uint64 // the mask for MASKED_EQ
	val2 uint64 // what the masked argument has to be
}

const maxErrno = 4095 // the kernel's; greater ones are cut to it

func parse(s *specs.LinuxSeccomp) (*profile, error) {
	if s.DefaultAction == specs.ActNotify {
		return nil, errors.New("SCMP_ACT_NOTIFY cannot be used as default action")
	}
	def, err := action(s.DefaultAction, s.DefaultErrnoRet)
	if err != nil {
		return nil, fmt.Errorf("default action: %w", err)
	}
	p := &profile{fallback: def}
	switch s.DefaultAction {
	case specs.ActAllow, specs.ActLog, specs.ActTrace:
	default:
		p.enosys = true
	}
	for i, call := range s.Syscalls {
		rules, err := parseRule(call, def)
		if err != nil {
			return nil, fmt.Errorf("rule %d: %w", i, err)
		}
		p.rules = append(p.rules, rules...)
	}
	return p, nil
}

// parseRule gives one rule, or one for each condition where two are on the same
// argument.
func parseRule(call specs.LinuxSyscall, def uint32) ([]rule, error) {
	ret, err := action(call.Action, call.ErrnoRet)
	if err != nil {
		return nil, err
	}
	for _, n := range call.Names {
		if n == "" {
			return nil, errors.New("empty system call name")
		}
		// The listener could not be handed out: that takes a write.
		if n == "write" && call.Action == specs.ActNotify {
			return nil, errors.New("SCMP_ACT_NOTIFY cannot be used for the write syscall")
		}
	}
	rows := rowsOf(call.Names)
	if ret == def {
		return []rule{{names: call.Names, rows: rows, without: true}}, nil
	}
	conds, twice, err := conditions(call.Args)
	if err != nil {
		return nil, err
	}
	if !twice {
		return []rule{{names: call.Names, rows: rows, conds: conds, ret: ret}}, nil
	}
	var rs []rule
	for _, c := range conds {
		rs = append(rs, rule{names: call.Names, rows: rows, conds: []condition{c}, ret: ret})
	}
	return rs, nil
}

func conditions(args []specs.LinuxSeccompArg) (cs []condition, twice bool, err error) {
	var seen [6]bool
	for _, a := range args {
		if a.Index > 5 {
			return nil, false, fmt.Errorf("argument %d: calls have arguments 0 to 5", a.Index)
		}
		if !slices.Contains(operators, a.Op) {
			return nil, false, fmt.Errorf("argument %d: unknown operator %q", a.Index, a.Op)
		}
		twice = twice || seen[a.Index]
		seen[a.Index] = true
		cs = append(cs, condition{a.Index, a.Op, a.Value, a.ValueTwo})
	}
	return cs, twice, nil
}

// action gives the filter's return value. An errno that the action can't carry
// is passed over, as by runc.
func action(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	ret, ok := actions[a]
	if !ok {
		return 0, fmt.Errorf("unknown action %q", a)
	}
	if !hasErrno(a) {
		return ret, nil
	}
	data := uint(unix.EPERM)
	if errno != nil {
		data = *errno
	}
	if data > maxErrno {
		return 0, fmt.Errorf("%s: errno %d is above %d", a, data, maxErrno)
	}
	return ret | uint32(data), nil
}

func (p *profile) notifies() bool {
	return slices.ContainsFunc(p.rules, func(r rule) bool {
		return r.ret == unix.SECCOMP_RET_USER_NOTIF && len(r.names) > 0
	})
}

// split divides a profile that notifies: rest allows where asking notifies, and asking allows
// where it does not.
func (p *profile) split() (rest, asking *profile) {
	rest = &profile{fallback: p.fallback, enosys: p.enosys}
	asking = &profile{fallback: unix.SECCOMP_RET_ALLOW}
	for _, r := range p.rules {
		ours, theirs := r, r
		if r.ret == unix.SECCOMP_RET_USER_NOTIF {
			ours.ret = unix.SECCOMP_RET_ALLOW
		} else {
			theirs.ret = unix.SECCOMP_RET_ALLOW
		}
		rest.rules, asking.rules = append(rest.rules, ours), append(asking.rules, theirs)
	}
	return rest, asking
}

// Lets says whether the profile lets a call of the native architecture through whatever
// its arguments are. A profile that can't be compiled lets nothing through.
func Lets(s *specs.LinuxSeccomp, call string) bool {
	passes := func(a specs.LinuxSeccompAction) bool { return a == specs.ActAllow || a == specs.ActLog }
	lets, ended := passes(s.DefaultAction), false
	for _, rule := range s.Syscalls {
		if rule.Action == s.DefaultAction || !slices.Contains(rule.Names, call) {
			continue
		}
		switch {
		case len(rule.Args) > 0 && !passes(rule.Action):
			return false
		case len(rule.Args) == 0 && !ended:
			lets, ended = passes(rule.Action), true
		}
	}
	return lets
}

// call is what happens to one number: its conditional rules in order, then end.
type call struct {
	nr    uint32
	rules []rule
	end   uint32
	ended bool
}

// calls gives the numbers that the profile's rules speak of, ascending, and the
// highest that it names, whether a rule is left for it or not. The calls are in the
// room that the caller lends.
func (p *profile) calls(col int, room []call) (cs []call, highest uint32, named bool) {
	cs = room[:0]
	at := places{}
	for _, r := range p.rules {
		for _, i := range r.rows {
			if table[i].nr[col] < 0 { // the architecture lacks it
				continue
			}
			nr := uint32(table[i].nr[col])
			if nr&^x32Bit < privateCalls {
				highest, named = max(highest, nr), true
			}
			if r.without {
				continue
			}
			place := at.of(nr)
			if *place == 0 {
				cs = append(cs, call{nr: nr, end: p.fallback})
				*place = uint16(len(cs)) // at most table's rows
			}
			cs[*place-1].add(r)
		}
	}
	slices.SortFunc(cs, func(a, b call) int { return cmp.Compare(a.nr, b.nr) })
	return cs, highest, named
}

// places finds a number's place in a list, counted from 1, fast for what is small.
type places struct {
	small [1024]uint16
	large map[uint32]*uint16
}

func (p *places) of(nr uint32) *uint16 {
	if low := nr &^ x32Bit; low < uint32(len(p.small)) {
		return &p.small[low]
	}
	if p.large[nr] == nil {
		if p.large == nil {
			p.large = map[uint32]*uint16{}
		}
		p.large[nr] = new(uint16)
	}
	return p.large[nr]
}

// privateCalls is where arm's own numbers begin, far above all others.
const privateCalls = 0xf0000

func (c *call) add(r rule) {
	switch {
	case len(r.conds) > 0:
		c.rules = append(c.rules, r)
	case !c.ended:
		c.end, c.ended = r.ret, true
	}
}
