// Package firewall keeps the way of containers' packets open on a host where others
// change the firewall too.
//
// A Keeper listens to what the kernel tells of nftables changes (NFNLGRP_NFTABLES).
// Within half a second of one that may concern the engine, and every half minute in
// case a message was lost, it looks whether
//
//   - the engine's own table is as it was left: else it is made anew, in one transaction;
//   - the table filter of iptables-nft is closed, that is drops what it does not know:
//     then accepts for our bridges go into DOCKER-USER, where the chain FORWARD jumps to
//     it, or else to the head of FORWARD, as dockerd's own rules do;
//   - another table is closed to us: what Warnings then tells is shown by docker info.
//
// Looking changes nothing where all is well, so that the engine's own changes, which it
// hears of too, never set off another.
//
// Our accepts carry the engine's instance name as comment; iptables -S lists them.
package firewall
