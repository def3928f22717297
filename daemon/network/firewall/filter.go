package firewall

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// The table of iptables-nft, and the chains in it that matter here.
const (
	filterTable  = "filter"
	forwardChain = "FORWARD"
	userChain    = "DOCKER-USER" // Docker's, for rules that come before its own
	dockerChain  = "DOCKER"      // where Docker lists what its containers publish
)

// filter is what was read of a table of iptables-nft.
type filter struct {
	table *nftables.Table
	base  *nftables.Chain             // FORWARD
	rules map[string][]*nftables.Rule // of FORWARD and Docker's chains, by chain
}

// readFilter returns nil where there is no such table, or none with a base chain FORWARD.
func readFilter(c *nftables.Conn, family nftables.TableFamily) (*filter, error) {
	chains, err := c.ListChainsOfTableFamily(family)
	if err != nil {
		return nil, err
	}
	f := &filter{rules: map[string][]*nftables.Rule{}}
	for _, ch := range chains {
		if ch.Table.Name != filterTable || ch.Name != forwardChain && !strings.HasPrefix(ch.Name, dockerChain) {
			continue
		}
		if ch.Name == forwardChain && forwards(ch) {
			f.table, f.base = ch.Table, ch
		}
		if f.rules[ch.Name], err = c.GetRules(ch.Table, ch); err != nil {
			return nil, err
		}
	}
	if f.base == nil {
		return nil, nil
	}
	return f, nil
}

// jumps says whether a chain has a rule that goes to another.
func (f *filter) jumps(from, to string) bool {
	return slices.ContainsFunc(f.rules[from], func(r *nftables.Rule) bool {
		v, _ := last(r).(*expr.Verdict)
		return v != nil && v.Kind == expr.VerdictJump && v.Chain == to
	})
}

// home is the chain where our rules belong, "" for none.
func (f *filter) home() string {
	switch {
	case !closed(f.base, f.rules[forwardChain]):
		return ""
	case f.jumps(forwardChain, userChain):
		return userChain
	}
	return forwardChain
}

// dockers are the bridges of Docker's networks: what goes to one is led through the
// chain of published ports.
func (f *filter) dockers() (out []string) {
	for _, rules := range f.rules {
		for _, r := range rules {
			v, _ := last(r).(*expr.Verdict)
			if v == nil || v.Kind != expr.VerdictJump || v.Chain != dockerChain {
				continue
			}
			for _, t := range nameTests(r.Exprs) {
				if t.key == expr.MetaKeyOIFNAME && t.op == expr.CmpOpEq && !t.wild {
					out = append(out, t.name)
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// ours are the rules with our mark, by chain.
func (f *filter) ours(mark []byte) map[string][]*nftables.Rule {
	out := map[string][]*nftables.Rule{}
	for name, rules := range f.rules {
		for _, r := range rules {
			if bytes.Equal(r.UserData, mark) {
				out[name] = append(out[name], r)
			}
		}
	}
	return out
}

// before is the rule that ours must precede in their home: an unconditional return in
// DOCKER-USER, which ends it, and the first of FORWARD. Nil is the end of the chain.
func (f *filter) before(home string, mark []byte) *nftables.Rule {
	for _, r := range f.rules[home] {
		if bytes.Equal(r.UserData, mark) {
			continue
		}
		v, _ := last(r).(*expr.Verdict)
		if home == forwardChain || always(r) && v != nil && v.Kind == expr.VerdictReturn {
			return r
		}
	}
	return nil
}

// right says whether our rules are want, in home and nowhere else, and not after its end.
func (f *filter) right(home string, want []rule, mark []byte) bool {
	ours := f.ours(mark)
	var got []rule
	for _, nr := range ours[home] {
		r, ok := parse(nr)
		if !ok {
			return false
		}
		got = append(got, r)
	}
	delete(ours, home)
	if len(ours) > 0 || !slices.Equal(got, want) {
		return false
	}
	end := f.before(home, mark)
	if home != userChain || end == nil || len(want) == 0 {
		return true
	}
	rules := f.rules[home]
	i := slices.Index(rules, end)
	return i > 0 && bytes.Equal(rules[i-1].UserData, mark)
}

// families are the tables that are kept open, and what that takes.
var families = map[nftables.TableFamily]func(bridges, dockers []string) []rule{
	nftables.TableFamilyIPv4: rulesFor4,
	nftables.TableFamilyIPv6: rulesFor6,
}

// accept makes our rules in the tables of iptables-nft be those of bridges, none of
// which takes them away. comment marks them as this engine's.
func accept(comment string, bridges []string) error {
	for _, family := range slices.Sorted(maps.Keys(families)) {
		if err := acceptIn(family, comment, bridges); err != nil {
			return fmt.Errorf("accept forwarded packets in table filter of family %d: %w", family, err)
		}
	}
	return nil
}

func acceptIn(family nftables.TableFamily, comment string, bridges []string) error {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return err
	}
	defer c.CloseLasting() //nolint:errcheck // every change was acknowledged
	f, err := readFilter(c, family)
	if err != nil || f == nil {
		return err
	}
	mark := userdata.AppendString(nil, userdata.TypeComment, comment)
	home, want := f.home(), []rule(nil)
	if home != "" {
		want = families[family](bridges, f.dockers())
	}
	if f.right(home, want, mark) {
		return nil
	}
	for _, rules := range f.ours(mark) {
		for _, r := range rules {
			if err := c.DelRule(r); err != nil {
				return err
			}
		}
	}
	end := f.before(home, mark)
	for _, r := range want {
		nr := &nftables.Rule{Table: f.table, Chain: &nftables.Chain{Name: home, Table: f.table}, Exprs: r.exprs(), UserData: mark}
		if end == nil {
			c.AddRule(nr)
			continue
		}
		nr.Position = end.Handle
		c.InsertRule(nr)
	}
	return c.Flush()
}
