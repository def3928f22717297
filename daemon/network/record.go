package network

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"gantry/daemon/network/bridge"
	"gantry/daemon/network/hostfiles"
	"gantry/daemon/network/ipam"
	"gantry/daemon/network/netns"
)

// Names of the predefined networks.
const (
	bridgeNetwork = "bridge"
	hostNetwork   = "host"
	noneNetwork   = "none"
)

var (
	networkBucket  = []byte("network")
	endpointBucket = []byte("endpoint")
)

// loadNetworks reads the predefined networks and makes those that are missing, so that
// their ids stay the same over restarts.
func (s *Service) loadNetworks() (map[string]record, error) {
	all := map[string]record{}
	err := s.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(networkBucket)
		if err != nil {
			return err
		}
		for name, driver := range map[string]string{bridgeNetwork: "bridge", hostNetwork: "host", noneNetwork: "null"} {
			if name == bridgeNetwork && s.cfg.Bridge == "none" {
				continue
			}
			old, err := read(b, name)
			if err != nil { // nothing but its id is lost
				s.log.Error("record of a predefined network cannot be read, made anew", "network", name, "err", err)
				old = record{}
			}
			r := old
			if r.ID == "" {
				r = record{ID: newID(), Name: name, Driver: driver, Created: time.Now().UTC()}
			}
			if name == bridgeNetwork {
				if r.Address, err = s.bridgeAddress(old.Address); err != nil {
					return err
				}
			}
			if r != old {
				if err := write(b, name, r); err != nil {
					return err
				}
			}
			all[name] = r
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("network records: %w", err)
	}
	return all, nil
}

func read(b *bbolt.Bucket, name string) (r record, err error) {
	if raw := b.Get([]byte(name)); raw != nil {
		if err := json.Unmarshal(raw, &r); err != nil {
			return r, fmt.Errorf("network %s: %w", name, err)
		}
	}
	return r, nil
}

func write(b *bbolt.Bucket, key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return b.Put([]byte(key), raw)
}

// bridgeAddress decides: what was configured, what the bridge has, what it had, or the
// first pool that is free on this host.
func (s *Service) bridgeAddress(last netip.Prefix) (netip.Prefix, error) {
	if s.cfg.Address.IsValid() {
		return s.cfg.Address, nil
	}
	has, err := bridge.Find(s.cfg.Bridge)
	if err != nil || has.IsValid() {
		return has, err
	}
	used, err := hostNetworks()
	if err != nil {
		return netip.Prefix{}, err
	}
	if last.IsValid() {
		if _, err := ipam.NextNetwork([]ipam.Pool{{Base: last.Masked(), Size: last.Bits()}}, used); err == nil {
			return last, nil
		}
	}
	pools := s.cfg.Pools
	if len(pools) == 0 {
		pools = ipam.DefaultPools()
	}
	subnet, err := ipam.NextNetwork(pools, used)
	return netip.PrefixFrom(subnet.Addr().Next(), subnet.Bits()), err
}

// hostNetworks lists what the host reaches without a gateway and where it asks for names.
func hostNetworks() ([]netip.Prefix, error) {
	out, err := bridge.OnLink()
	if err != nil {
		return nil, fmt.Errorf("list the host's networks: %w", err)
	}
	for _, server := range hostfiles.HostServers() {
		out = append(out, netip.PrefixFrom(server, server.BitLen()))
	}
	return out, nil
}

func (s *Service) loadEndpoints() (map[string]endpoint, error) {
	all := map[string]endpoint{}
	err := s.run.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(endpointBucket)
		if err != nil {
			return err
		}
		var bad [][]byte
		err = b.ForEach(func(k, v []byte) error {
			var e endpoint
			if err := json.Unmarshal(v, &e); err != nil || e.Container != string(k) {
				s.log.Error("record of an endpoint cannot be read, dropped", "container", string(k), "err", err)
				bad = append(bad, slices.Clone(k))
				return nil
			}
			all[string(k)] = e
			return nil
		})
		for i := 0; i < len(bad) && err == nil; i++ {
			err = b.Delete(bad[i])
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("endpoint records: %w", err)
	}
	return all, nil
}

// keep records an endpoint before what it names is made, so that a crash in between
// leaves nothing that nobody knows of.
func (s *Service) keep(e endpoint) error {
	err := s.run.Update(func(tx *bbolt.Tx) error { return write(tx.Bucket(endpointBucket), e.Container, e) })
	if err != nil {
		return fmt.Errorf("record endpoint: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoints[e.Container] = e
	return nil
}

func (s *Service) forget(container string) error {
	err := s.run.Update(func(tx *bbolt.Tx) error { return tx.Bucket(endpointBucket).Delete([]byte(container)) })
	if err != nil {
		return fmt.Errorf("drop the record of the endpoint: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.endpoints, container)
	return nil
}

// sweep removes links of our bridge and namespaces that no endpoint names.
func (s *Service) sweep() error {
	s.mu.Lock()
	known := map[string]bool{}
	for _, e := range s.endpoints {
		known[e.Veth], known[e.Netns], known[e.Userns] = true, true, true
	}
	s.mu.Unlock()
	var errs []error
	if _, ok := s.networks[bridgeNetwork]; ok {
		ports, err := bridge.Ports(s.cfg.Bridge)
		errs = append(errs, err)
		for _, veth := range ports {
			// Somebody else may have put a link on the bridge; ours have our prefix.
			if !known[veth] && len(veth) == len(vethPrefix)+vethDigits && veth[:len(vethPrefix)] == vethPrefix {
				errs = append(errs, bridge.Detach(veth))
			}
		}
	}
	names, err := os.ReadDir(s.cfg.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, n := range names {
		if path := filepath.Join(s.cfg.Dir, n.Name()); !known[path] {
			errs = append(errs, netns.Remove(path))
		}
	}
	return errors.Join(errs...)
}
