package netdev

import (
	"errors"
	"fmt"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// place is a network namespace to talk with.
type place struct {
	*netlink.Handle
	ns  *os.File
	raw *nl.NetlinkSocket // for the one request that Handle has not
}

// openPlace takes a copy of ns.
func openPlace(ns *os.File) (place, error) {
	fd, err := unix.FcntlInt(ns.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return place{}, err
	}
	p := place{ns: os.NewFile(uintptr(fd), ns.Name())}
	if p.Handle, err = handleAt(p.ns); err == nil {
		p.raw, err = nl.GetNetlinkSocketAt(netns.NsHandle(p.ns.Fd()), netns.None(), unix.NETLINK_ROUTE)
	}
	if err != nil {
		p.close()
		return place{}, fmt.Errorf("network namespace: %w", err)
	}
	return p, nil
}

func (p place) close() {
	if p.Handle != nil {
		p.Handle.Close()
	}
	if p.raw != nil {
		p.raw.Close()
	}
	if p.ns != nil {
		p.ns.Close()
	}
}

// send moves a device and names it in one request, so that nobody sees it under its old
// name there. Should the name turn out to be taken it has been moved nevertheless.
func (p place) send(index int, name string, to place) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_ACK)
	req.Sockets = map[int]*nl.SocketHandle{unix.NETLINK_ROUTE: {Socket: p.raw}}
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(index)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(name)))
	req.AddData(nl.NewRtAttr(unix.IFLA_NET_NS_FD, nl.Uint32Attr(uint32(to.ns.Fd()))))
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}

// indices are the devices of the namespace.
func (p place) indices() (map[int]bool, error) {
	links, err := p.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	set := map[int]bool{}
	for _, l := range links {
		set[l.Attrs().Index] = true
	}
	return set, nil
}

// arrived finds the device that was not there before, under its new name, which may be a
// template, or under its old one; nil is none.
func (p place) arrived(before map[int]bool, name, old string) (netlink.Link, error) {
	links, err := p.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("list devices: %w", err)
	}
	var found netlink.Link
	for _, l := range links {
		if before[l.Attrs().Index] {
			continue
		}
		if matches(name, l.Attrs().Name) {
			return l, nil
		}
		if l.Attrs().Name == old {
			found = l
		}
	}
	return found, nil
}
