package firewall

import (
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

var mark = userdata.AppendString(nil, userdata.TypeComment, "gantry-0")

// foreign makes a rule of somebody else, as iptables-nft writes it.
func foreign(out string, end expr.Any) *nftables.Rule {
	r := &nftables.Rule{}
	if out != "" {
		r.Exprs = append(r.Exprs, &expr.Meta{Key: expr.MetaKeyOIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte(out), 0)})
	}
	r.Exprs = append(r.Exprs, &expr.Counter{Packets: 7}, end)
	return r
}

func ours(r rule) *nftables.Rule { return &nftables.Rule{Exprs: r.exprs(), UserData: mark} }

func jump(chain string) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: chain} }

var (
	back   = &expr.Verdict{Kind: expr.VerdictReturn}
	drop   = &expr.Verdict{Kind: expr.VerdictDrop}
	reject = &expr.Target{Name: "REJECT"}
)

func filterOf(policy nftables.ChainPolicy, chains map[string][]*nftables.Rule) *filter {
	return &filter{base: &nftables.Chain{Name: forwardChain, Policy: &policy}, rules: chains}
}

func TestHome(t *testing.T) {
	type chains = map[string][]*nftables.Rule
	for _, tt := range []struct {
		name   string
		policy nftables.ChainPolicy
		chains chains
		want   string
	}{
		{"open", nftables.ChainPolicyAccept, nil, ""},
		{"policy", nftables.ChainPolicyDrop, nil, "FORWARD"},
		{"last rule rejects", nftables.ChainPolicyAccept, chains{"FORWARD": {foreign("", reject)}}, "FORWARD"},
		{"last rule drops", nftables.ChainPolicyAccept, chains{"FORWARD": {foreign("", drop)}}, "FORWARD"},
		{"last rule drops some", nftables.ChainPolicyAccept, chains{"FORWARD": {foreign("eth0", drop)}}, ""},
		{"Docker in an open chain", nftables.ChainPolicyAccept, chains{"FORWARD": {foreign("", jump("DOCKER-USER"))}}, ""},
		{"Docker", nftables.ChainPolicyDrop, chains{"FORWARD": {foreign("", jump("DOCKER-USER"))}, "DOCKER-USER": nil}, "DOCKER-USER"},
		{"a user chain that nobody asks", nftables.ChainPolicyDrop, chains{"FORWARD": {foreign("", jump("DOCKER"))}, "DOCKER-USER": nil}, "FORWARD"},
	} {
		if got := filterOf(tt.policy, tt.chains).home(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestDockers(t *testing.T) {
	f := filterOf(nftables.ChainPolicyDrop, map[string][]*nftables.Rule{
		"FORWARD":       {foreign("docker0", jump("DOCKER")), foreign("br-1", jump("DOCKER")), foreign("br-2", drop)},
		"DOCKER-BRIDGE": {foreign("docker0", jump("DOCKER"))},
	})
	if got := f.dockers(); !slices.Equal(got, []string{"br-1", "docker0"}) {
		t.Errorf("got %v", got)
	}
}

func TestRight(t *testing.T) {
	want := rulesFor4([]string{"gt0"}, []string{"docker0"})
	if len(want) != 3 || want[0] != (rule{"", "gt0", expr.VerdictAccept}) || want[1] != (rule{"gt0", "docker0", expr.VerdictReturn}) || want[2] != (rule{"gt0", "", expr.VerdictAccept}) {
		t.Fatalf("rules %v", want)
	}
	var all []*nftables.Rule
	for _, r := range want {
		all = append(all, ours(r))
	}
	end, theirs := foreign("", back), foreign("eth0", drop)
	for _, tt := range []struct {
		name  string
		home  string
		rules map[string][]*nftables.Rule
		want  []rule
		right bool
		end   *nftables.Rule // that new ones would precede
	}{
		{"none yet", userChain, map[string][]*nftables.Rule{userChain: {end}}, want, false, end},
		{"before the end", userChain, map[string][]*nftables.Rule{userChain: slices.Concat(all, []*nftables.Rule{end})}, want, true, end},
		{"after an administrator's", userChain, map[string][]*nftables.Rule{userChain: slices.Concat([]*nftables.Rule{theirs}, all, []*nftables.Rule{end})}, want, true, end},
		{"after the end", userChain, map[string][]*nftables.Rule{userChain: slices.Concat([]*nftables.Rule{end}, all)}, want, false, end},
		{"a chain without an end", userChain, map[string][]*nftables.Rule{userChain: slices.Concat([]*nftables.Rule{theirs}, all)}, want, true, nil},
		{"some", userChain, map[string][]*nftables.Rule{userChain: {all[0], all[2], end}}, want, false, end},
		{"in the wrong chain too", userChain, map[string][]*nftables.Rule{userChain: slices.Concat(all, []*nftables.Rule{end}), forwardChain: all}, want, false, end},
		{"too many", userChain, map[string][]*nftables.Rule{userChain: slices.Concat(all, []*nftables.Rule{end})}, nil, false, end},
		{"none wanted", "", map[string][]*nftables.Rule{forwardChain: {theirs}}, nil, true, nil},
		{"no longer wanted", "", map[string][]*nftables.Rule{forwardChain: {all[0]}}, nil, false, nil},
		{"in FORWARD", forwardChain, map[string][]*nftables.Rule{forwardChain: slices.Concat(all, []*nftables.Rule{theirs})}, want, true, theirs},
	} {
		f := filterOf(nftables.ChainPolicyDrop, tt.rules)
		if got := f.right(tt.home, tt.want, mark); got != tt.right {
			t.Errorf("%s: right %t", tt.name, got)
		}
		if got := f.before(tt.home, mark); got != tt.end {
			t.Errorf("%s: before %v", tt.name, got)
		}
	}
}

func TestParse(t *testing.T) {
	for _, r := range append(rulesFor4([]string{"gt0"}, []string{"docker0"}), rulesFor6([]string{"a-name-of-15-ch"}, nil)...) {
		if got, ok := parse(ours(r)); !ok || got != r {
			t.Errorf("%v comes back as %v, %t", r, got, ok)
		}
	}
	for name, exprs := range map[string][]expr.Any{
		"nothing":     nil,
		"no verdict":  {&expr.Counter{}},
		"more":        append([]expr.Any{&expr.Limit{}}, rule{in: "gt0"}.exprs()...),
		"another way": {&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: []byte("gt0\x00")}, &expr.Counter{}, back},
	} {
		if got, ok := parse(&nftables.Rule{Exprs: exprs}); ok {
			t.Errorf("%s is taken for %v", name, got)
		}
	}
}
