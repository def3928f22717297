// Package network gives containers their network: the default bridge with published
// ports, the host's, or none.
//
// Durable records, in gantry.db:
//
//	network/<name> : JSON {id, driver, subnet, gateway, created}    bridge, host, none
//
// Run-time records, in run.db, which does not outlive a boot:
//
//	endpoint/<container id> : JSON of endpoint
//
// Lock order: mu is the only lock and covers memory; system calls and netlink are made
// without it. One container is worked on by one caller at a time (its lane).
package network

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"

	"gantry/api/database"
	"gantry/daemon/network/bridge"
	"gantry/daemon/network/firewall"
	"gantry/daemon/network/hostfiles"
	"gantry/daemon/network/ipam"
	"gantry/daemon/network/nft"
	"gantry/daemon/network/portmap"
)

// Config is what the service needs to know of the engine's configuration.
type Config struct {
	Instance   string       // names the firewall table
	Bridge     string       // of the default network; "none" is no such network
	Address    netip.Prefix // of the bridge; the zero Prefix takes the bridge's own, or a pool's
	Pools      []ipam.Pool
	MTU        int
	DefaultIP  netip.Addr // where ports are published that name no address
	Forward    bool       // turn on the host's forwarding
	Masquerade bool
	Firewall   bool // false: touch no rules
	Relay      bool // carry what the firewall's translation can't
	DNS        hostfiles.Resolver
	// HostGateways are what host-gateway stands for; empty is the bridge's address.
	HostGateways []netip.Addr
	Dir          string // holds the names of network namespaces
}

// Publisher takes events; it never blocks.
type Publisher interface {
	Publish(typ events.Type, action events.Action, actor events.Actor)
}

// Service is the networks of one engine. Safe for concurrent use.
type Service struct {
	cfg      Config
	db, run  database.Records
	events   Publisher
	log      *slog.Logger
	table    *nft.Table
	keeper   *firewall.Keeper // nil when no rules are to be touched; runs from Restore to Close
	ports    *portmap.Allocator
	networks map[string]record // by name; constant once New has returned

	mu        sync.Mutex
	space     *ipam.Space              // guarded by mu; of the default bridge
	endpoints map[string]endpoint      // guarded by mu; by container id
	leaving   map[string]chan struct{} // guarded by mu; closed when the endpoint has left

	work sync.WaitGroup // those that leave
}

// record is one network.
type record struct {
	ID      string       `json:"id"`
	Name    string       `json:"name"`
	Driver  string       `json:"driver"`
	Address netip.Prefix `json:"address"` // the gateway's, in its subnet
	Created time.Time    `json:"created"`
}

// endpoint is a running container's place in a network; it is kept so that a daemon
// that starts anew knows what there is to keep and to undo.
type endpoint struct {
	Container  string            `json:"container"`
	Name       string            `json:"name"`
	ID         string            `json:"id"`
	Network    string            `json:"network"`
	Address    netip.Prefix      `json:"address"`
	MAC        string            `json:"mac"`
	Veth       string            `json:"veth"`
	Netns      string            `json:"netns"`
	Userns     string            `json:"userns,omitempty"` // which owns it
	Bindings   []portmap.Binding `json:"bindings"`
	Translated bool              `json:"translated"` // the bindings are in the firewall's table
}

// New sets up the predefined networks and takes up the endpoints of an earlier run;
// Restore then drops those that nobody uses any more.
func New(cfg Config, db, run database.Records, ev Publisher, log *slog.Logger) (*Service, error) {
	s := &Service{
		cfg: cfg, db: db, run: run, events: ev, log: log,
		table: nft.New(cfg.Instance), ports: portmap.New(), leaving: map[string]chan struct{}{},
	}
	if err := os.MkdirAll(cfg.Dir, 0o711); err != nil {
		return nil, err
	}
	var err error
	if s.networks, err = s.loadNetworks(); err != nil {
		return nil, err
	}
	if s.endpoints, err = s.loadEndpoints(); err != nil {
		return nil, err
	}
	return s, s.setUp()
}

func (s *Service) setUp() error {
	if br, ok := s.networks[bridgeNetwork]; ok {
		if err := bridge.Ensure(s.cfg.Bridge, br.Address, s.cfg.MTU); err != nil {
			return err
		}
		s.space = ipam.NewSpace(br.Address, br.Address.Addr())
		if s.cfg.Forward {
			if err := bridge.EnableForwarding(); err != nil {
				return fmt.Errorf("enable IP forwarding: %w", err)
			}
		}
	}
	for _, e := range s.endpoints {
		s.ports.Adopt(e.Bindings)
		if e.Address.IsValid() && s.space != nil {
			if err := s.space.TakeThis(e.Address.Addr()); err != nil {
				s.log.Warn("take up endpoint", "container", e.Container, "err", err)
			}
		}
	}
	if !s.cfg.Firewall {
		return nil
	}
	return s.writeTable()
}

// writeTable makes the firewall's table, and what keeps it, from the endpoints.
func (s *Service) writeTable() error {
	keep := firewall.Config{Instance: s.cfg.Instance, Table: s.table, Sysctls: s.sysctls}
	var networks []nft.Network
	if br, ok := s.networks[bridgeNetwork]; ok {
		networks = append(networks, nft.Network{Bridge: s.cfg.Bridge, Subnet: br.Address.Masked(), Masquerade: s.cfg.Masquerade})
		keep.Bridges = append(keep.Bridges, s.cfg.Bridge)
	}
	s.keeper = firewall.New(keep, s.log)
	var ports []nft.Port
	for _, e := range s.endpoints {
		ports = append(ports, translations(e.Bindings)...)
	}
	return s.table.Reset(networks, ports)
}

// sysctls sets what lets packets through the host again, where somebody took it back.
func (s *Service) sysctls() error {
	if _, ok := s.networks[bridgeNetwork]; !ok {
		return nil
	}
	err := bridge.EnableLocalnet(s.cfg.Bridge)
	if s.cfg.Forward {
		err = errors.Join(err, bridge.EnableForwarding())
	}
	return err
}

// Close leaves everything that running containers need in place; without them it takes
// what the firewall holds of us away. The bridge stays, as dockerd's does.
func (s *Service) Close() error {
	s.work.Wait()
	s.mu.Lock()
	idle := len(s.endpoints) == 0
	s.mu.Unlock()
	if !s.cfg.Firewall || s.keeper == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second) // firewalld's, mostly
	defer cancel()
	err := s.keeper.Close(ctx, idle)
	if idle {
		err = errors.Join(err, s.table.Remove())
	}
	return err
}

// Warnings tells of firewalls that keep packets from containers.
func (s *Service) Warnings() []string {
	if s.keeper == nil {
		return nil
	}
	return s.keeper.Warnings()
}

// Restore releases the endpoints of containers that are not live, and keeps the
// firewall open from then on.
func (s *Service) Restore(ctx context.Context, live map[string]bool) error {
	s.mu.Lock()
	var gone []string
	for id := range s.endpoints {
		if !live[id] {
			gone = append(gone, id)
		}
	}
	s.mu.Unlock()
	for _, id := range gone {
		if err := s.Release(ctx, id); err != nil {
			s.log.Warn("release the network of a container that has gone", "container", id, "err", err)
		}
	}
	if s.keeper != nil {
		s.keeper.Start()
	}
	return s.sweep()
}

func newID() string {
	var b [32]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
