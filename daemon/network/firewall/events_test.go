package firewall

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"gantry/internal/testutil/need"
)

func TestConcerns(t *testing.T) {
	message := func(kind uint16, table string) netlink.Message {
		attrs, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_TABLE_NAME, Data: append([]byte(table), 0)}})
		if err != nil {
			t.Fatal(err)
		}
		return netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind)},
			Data:   append([]byte{unix.NFPROTO_IPV4, 0, 0, 0}, attrs...),
		}
	}
	for _, tt := range []struct {
		name string
		m    netlink.Message
		want bool
	}{
		{"an element of ours", message(unix.NFT_MSG_DELSETELEM, "gantry-0"), true},
		{"an element of another", message(unix.NFT_MSG_DELSETELEM, "kube-proxy"), false},
		{"a rule of another", message(unix.NFT_MSG_NEWRULE, "kube-proxy"), false},
		{"a rule of iptables", message(unix.NFT_MSG_NEWRULE, "filter"), true},
		{"a chain of another", message(unix.NFT_MSG_NEWCHAIN, "kube-proxy"), true},
		{"a generation", message(unix.NFT_MSG_NEWGEN, "gantry-"), false},
		{"another subsystem", netlink.Message{Header: netlink.Header{Type: 1 << 8}, Data: message(0, "gantry-0").Data}, false},
		{"cut short", netlink.Message{Header: message(unix.NFT_MSG_DELTABLE, "").Header, Data: []byte{2, 0}}, false},
		{"not even a name", netlink.Message{Header: message(unix.NFT_MSG_NEWRULE, "").Header, Data: []byte{2, 0, 0, 0, 9}}, false},
	} {
		if got := concerns(tt.m, "gantry-0"); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

// TestLostMessages: a listener that is not quick enough is told so, and tells.
func TestLostMessages(t *testing.T) {
	need.Root(t, "listens to nftables")
	nft := need.Command(t, "nft")
	table := fmt.Sprintf("gantry-test-lost-%d", os.Getpid())
	run := func(script string) {
		t.Helper()
		cmd := exec.Command(nft, "-f", "-")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("nft: %v: %s", err, out)
		}
	}
	run("add table ip " + table + "; add chain ip " + table + " c")
	defer run("delete table ip " + table)
	l, err := listen()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.conn.SetReadBuffer(1); err != nil { // the kernel's least is some KiB
		t.Fatal(err)
	}
	// None of these messages concerns the listener: only their loss does.
	run(strings.Repeat("add rule ip "+table+" c accept\n", 200))
	var heard atomic.Int32
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { l.run(ctx, "no such table", func() { heard.Add(1) }, slog.New(slog.DiscardHandler)) })
	for deadline := time.Now().Add(10 * time.Second); heard.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("a loss is not told")
			break
		}
	}
	cancel()
	running.Wait()
}
