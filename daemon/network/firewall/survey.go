package firewall

import (
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
)

// survey tells of every table, but for the engine's own, that drops forwarded packets
// and has no rule for a bridge of ours.
func survey(own string, bridges []string) (warnings []string, err error) {
	c, err := nftables.New(nftables.AsLasting())
	if err != nil {
		return nil, err
	}
	defer c.CloseLasting() //nolint:errcheck // only read from
	chains, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list nft chains: %w", err)
	}
	for _, ch := range chains {
		family := map[nftables.TableFamily]string{nftables.TableFamilyIPv4: "ip", nftables.TableFamilyINet: "inet"}[ch.Table.Family]
		if family == "" || !forwards(ch) || ch.Table.Name == own {
			continue
		}
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			return nil, fmt.Errorf("list the rules of nft table %s %s: %w", family, ch.Table.Name, err)
		}
		if !closed(ch, rules) {
			continue
		}
		named, err := names(c, chains, ch.Table)
		if err != nil {
			return nil, err
		}
		for _, b := range bridges {
			if !slices.ContainsFunc(named, func(t nameTest) bool { return t.holds(b) }) {
				warnings = append(warnings, fmt.Sprintf("the firewall drops what containers on %s send and are sent: chain %s of nft table %s %s has no rule for this bridge. "+
					"Accept there iifname %[1]s and oifname %[1]s; see docs/firewall.md", b, ch.Name, family, ch.Table.Name))
			}
		}
	}
	return warnings, nil
}

// names are the interfaces that rules of a table name, in comparisons and in sets.
func names(c *nftables.Conn, chains []*nftables.Chain, table *nftables.Table) (out []nameTest, err error) {
	sets := map[string]bool{}
	for _, ch := range chains {
		if ch.Table.Family != table.Family || ch.Table.Name != table.Name {
			continue
		}
		rules, err := c.GetRules(table, ch)
		if err != nil {
			return nil, fmt.Errorf("list the rules of nft table %s: %w", table.Name, err)
		}
		for _, r := range rules {
			out = append(out, nameTests(r.Exprs)...)
			for _, e := range r.Exprs {
				if l, ok := e.(*expr.Lookup); ok && !l.Invert {
					sets[l.SetName] = true
				}
			}
		}
	}
	for name := range sets {
		elements, err := c.GetSetElements(&nftables.Set{Table: table, Name: name})
		if err != nil {
			return nil, fmt.Errorf("list the elements of nft set %s: %w", name, err)
		}
		for _, e := range elements {
			out = append(out, nameTest{op: expr.CmpOpEq, name: cString(e.Key)})
		}
	}
	return out, nil
}
