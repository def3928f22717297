package firewall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// genmsgSize is that of struct nfgenmsg, which precedes a message's attributes.
const genmsgSize = 4

// listener hears of every change of nftables in this network namespace.
type listener struct{ conn *netlink.Conn }

func listen() (*listener, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err == nil {
		if err = conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
			conn.Close()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("listen to nftables changes: %w", err)
	}
	return &listener{conn}, nil
}

// run calls changed for what may concern the engine with that table, until ctx ends.
// Where it can't hear, it calls changed every second.
func (l *listener) run(ctx context.Context, table string, changed func(), log *slog.Logger) {
	defer context.AfterFunc(ctx, func() { l.conn.Close() })() // which ends Receive; it was only read from
	for {
		messages, err := l.conn.Receive()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, unix.ENOBUFS): // messages were lost: it may have been anything
			changed()
		case err != nil:
			log.Error("hear of firewall changes", "err", err)
			changed()
			select {
			case <-ctx.Done():
			case <-time.After(again):
			}
		}
		for _, m := range messages {
			if concerns(m, table) {
				changed()
				break
			}
		}
	}
}

// concerns is pure: is the message of the engine's own table, of a table or chain that
// came or went or changed its policy, or of a rule in the tables of iptables?
func concerns(m netlink.Message, table string) bool {
	if m.Header.Type>>8 != unix.NFNL_SUBSYS_NFTABLES || len(m.Data) < genmsgSize {
		return false
	}
	name := tableOf(m.Data[genmsgSize:])
	if name == table {
		return true
	}
	switch m.Header.Type & 0xff {
	case unix.NFT_MSG_NEWTABLE, unix.NFT_MSG_DELTABLE, unix.NFT_MSG_NEWCHAIN, unix.NFT_MSG_DELCHAIN:
		return true
	case unix.NFT_MSG_NEWRULE, unix.NFT_MSG_DELRULE:
		return name == filterTable
	}
	return false
}

// tableOf returns the name of the table, which is attribute 1 of every kind of message
// but that of a generation.
func tableOf(attributes []byte) string {
	ad, err := netlink.NewAttributeDecoder(attributes)
	if err != nil {
		return ""
	}
	for ad.Next() {
		if ad.Type() == unix.NFTA_TABLE_NAME {
			return ad.String()
		}
	}
	return ""
}
