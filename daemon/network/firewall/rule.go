package firewall

import (
	"bytes"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// rule is one of ours: what comes in by one interface and leaves by another; "" is any.
type rule struct {
	in, out string
	verdict expr.VerdictKind // accept, or return to let the table's owner decide
}

// rulesFor4 lets through what comes from our bridges and goes to them: the engine's own
// table drops what was not asked for. What goes from ours to Docker's is left to
// Docker's own rules, so that its containers stay as closed to ours as to the rest.
func rulesFor4(bridges, dockers []string) (out []rule) {
	for _, b := range bridges {
		out = append(out, rule{out: b, verdict: expr.VerdictAccept})
		for _, d := range dockers {
			out = append(out, rule{in: b, out: d, verdict: expr.VerdictReturn})
		}
		out = append(out, rule{in: b, verdict: expr.VerdictAccept})
	}
	return out
}

// rulesFor6 lets containers on one bridge talk: the kernel shows bridged frames to
// these tables too (br_netfilter). We route no IPv6 to and from them.
func rulesFor6(bridges, _ []string) (out []rule) {
	for _, b := range bridges {
		out = append(out, rule{in: b, out: b, verdict: expr.VerdictAccept})
	}
	return out
}

// exprs is the rule in the form that iptables-nft writes, and so can list.
func (r rule) exprs() (out []expr.Any) {
	match := func(key expr.MetaKey, name string) {
		if name != "" {
			data := make([]byte, unix.IFNAMSIZ)
			copy(data, name)
			out = append(out, &expr.Meta{Key: key, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: data})
		}
	}
	match(expr.MetaKeyIIFNAME, r.in)
	match(expr.MetaKeyOIFNAME, r.out)
	return append(out, &expr.Counter{}, &expr.Verdict{Kind: r.verdict})
}

// parse is exprs the other way; ok is false for what is not of our form.
func parse(nr *nftables.Rule) (r rule, ok bool) {
	for _, t := range nameTests(nr.Exprs) {
		switch {
		case t.op != expr.CmpOpEq || t.wild:
			return r, false
		case t.key == expr.MetaKeyIIFNAME:
			r.in = t.name
		default:
			r.out = t.name
		}
	}
	v, _ := last(nr).(*expr.Verdict)
	if v == nil || len(nr.Exprs) != len(r.exprs()) {
		return r, false
	}
	r.verdict = v.Kind
	return r, true
}

// nameTest compares the name of an interface.
type nameTest struct {
	key  expr.MetaKey
	op   expr.CmpOp
	name string
	wild bool // any name that begins so
}

func (t nameTest) holds(name string) bool {
	return t.op == expr.CmpOpEq && (t.name == name || t.wild && strings.HasPrefix(name, t.name))
}

func nameTests(exprs []expr.Any) (out []nameTest) {
	for i, e := range exprs {
		c, ok := e.(*expr.Cmp)
		if !ok || i == 0 {
			continue
		}
		if m, ok := exprs[i-1].(*expr.Meta); ok && (m.Key == expr.MetaKeyIIFNAME || m.Key == expr.MetaKeyOIFNAME) {
			name, _, whole := bytes.Cut(c.Data, []byte{0})
			out = append(out, nameTest{m.Key, c.Op, string(name), !whole})
		}
	}
	return out
}

func last(r *nftables.Rule) expr.Any {
	if len(r.Exprs) == 0 {
		return nil
	}
	return r.Exprs[len(r.Exprs)-1]
}

// always says whether a rule has no condition.
func always(r *nftables.Rule) bool {
	return len(r.Exprs) > 0 && !slices.ContainsFunc(r.Exprs[:len(r.Exprs)-1], func(e expr.Any) bool {
		_, counts := e.(*expr.Counter)
		return !counts
	})
}

// closes says whether a rule drops or rejects every packet that reaches it.
func closes(r *nftables.Rule) bool {
	if !always(r) {
		return false
	}
	switch e := last(r).(type) {
	case *expr.Verdict:
		return e.Kind == expr.VerdictDrop
	case *expr.Reject:
		return true
	case *expr.Target: // of xtables, as iptables-nft writes it
		return e.Name == "REJECT" || e.Name == "DROP"
	}
	return false
}

// closed says whether a base chain lets nothing pass that its rules don't name.
func closed(c *nftables.Chain, rules []*nftables.Rule) bool {
	return c.Policy != nil && *c.Policy == nftables.ChainPolicyDrop || len(rules) > 0 && closes(rules[len(rules)-1])
}

func forwards(c *nftables.Chain) bool {
	return c.Hooknum != nil && *c.Hooknum == *nftables.ChainHookForward && c.Type == nftables.ChainTypeFilter
}
