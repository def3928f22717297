package nft

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Repair makes the table anew where it is not as it was left, whoever changed it, and
// says whether it had to. A table that has not been made, or was removed, stays so.
func (t *Table) Repair() (repaired bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.table == nil {
		return false, nil
	}
	if whole, err := t.whole(); err != nil || whole {
		return false, err
	}
	return true, t.write()
}

// whole says whether the kernel holds the table as it was left.
func (t *Table) whole() (bool, error) {
	now, err := t.readRules()
	if err != nil {
		return false, err
	}
	if now == nil || !slices.Equal(now, t.rules) {
		return false, nil
	}
	held, err := t.readElements()
	return maps.Equal(held, t.wanted()), err
}

// readRules lists chains, with hook and policy, and rules, by handle. A handle is never
// given twice in a table, so equal handles are equal rules. It is nil where there is no
// table, or a dormant one.
func (t *Table) readRules() (out []string, err error) {
	err = t.read(func(c *nftables.Conn) error {
		table, err := c.ListTableOfFamily(t.name, nftables.TableFamilyIPv4)
		if errors.Is(err, unix.ENOENT) || err == nil && table.Flags != 0 {
			return nil
		}
		if err != nil {
			return err
		}
		chains, err := c.ListChainsOfTableFamily(table.Family)
		if err != nil {
			return err
		}
		for _, ch := range chains {
			if ch.Table.Name != t.name {
				continue
			}
			out = append(out, chainLine(ch))
			rules, err := c.GetRules(table, ch)
			if err != nil {
				return err
			}
			for _, r := range rules {
				out = append(out, fmt.Sprint(ch.Name, " rule ", r.Handle))
			}
		}
		return nil
	})
	return out, err
}

func chainLine(ch *nftables.Chain) string {
	if ch.Hooknum == nil || ch.Priority == nil || ch.Policy == nil {
		return ch.Name
	}
	return fmt.Sprintf("%s hook %d priority %d policy %d", ch.Name, *ch.Hooknum, *ch.Priority, *ch.Policy)
}

func (t *Table) readElements() (elements, error) {
	all := elements{}
	err := t.read(func(c *nftables.Conn) error {
		for _, s := range t.sets() {
			found, err := c.GetSetElements(s)
			if err != nil {
				return err
			}
			for _, e := range found {
				all.add(s, e)
			}
		}
		return nil
	})
	return all, err
}

func (t *Table) read(from func(*nftables.Conn) error) error {
	c, err := nftables.New(nftables.AsLasting())
	if err == nil {
		err = from(c)
		c.CloseLasting() //nolint:errcheck // a socket that was read from
	}
	if err != nil {
		return fmt.Errorf("read nft table ip %s: %w", t.name, err)
	}
	return nil
}
