// Package firewalld puts the engine's bridges into a zone of firewalld that lets
// everything through, as dockerd does with its own, over the system bus. In no zone,
// they are in the default one, whose containers reach nothing but their own network.
//
// The zone is docker where it exists (a Docker beside us has made it), else trusted,
// which firewalld always has. A bridge that is in a zone already stays there: an
// administrator's choice, or an earlier run's. Nothing is written to firewalld's
// permanent configuration.
package firewalld

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/godbus/dbus/v5"
)

const (
	name     = "org.fedoraproject.FirewallD1"
	object   = dbus.ObjectPath("/org/fedoraproject/FirewallD1")
	zones    = name + ".zone"
	reloaded = name + ".Reloaded" // a signal: the running configuration is the permanent one again
	owner    = "org.freedesktop.DBus.NameOwnerChanged"

	// How long after the bus was not there, or went, it is tried again.
	retry = 30 * time.Second
	// The same after an error of firewalld, which may be starting.
	retrySoon = 2 * time.Second
	// How long firewalld has for an answer; a reload of a large configuration takes seconds.
	patience = 20 * time.Second
)

// Keep has the bridges in a zone whenever firewalld runs, until ctx ends; it calls
// changed after it has added one.
func Keep(ctx context.Context, bridges []string, changed func(), log *slog.Logger) {
	for ctx.Err() == nil {
		pause := retry
		if conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx)); err == nil {
			if err := keep(ctx, conn, bridges, changed); err != nil && ctx.Err() == nil {
				log.Warn("put the bridges into a zone of firewalld", "err", err)
				pause = retrySoon
			}
			conn.Close() //nolint:errcheck // nothing is buffered
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// keep returns when the bus has gone.
func keep(ctx context.Context, conn *dbus.Conn, bridges []string, changed func()) error {
	signals := make(chan *dbus.Signal, 16)
	conn.Signal(signals)
	for _, match := range [][]dbus.MatchOption{
		{dbus.WithMatchInterface(name), dbus.WithMatchMember("Reloaded")},
		{dbus.WithMatchInterface("org.freedesktop.DBus"), dbus.WithMatchMember("NameOwnerChanged"), dbus.WithMatchArg(0, name)},
	} {
		if err := conn.AddMatchSignalContext(ctx, match...); err != nil {
			return fmt.Errorf("listen to firewalld: %w", err)
		}
	}
	for {
		added, err := ensure(ctx, conn, bridges)
		if added {
			changed()
		}
		if err != nil {
			return err
		}
		if !wait(ctx, signals) {
			return nil
		}
	}
}

// wait returns true when firewalld may have lost what it was told, false at the end.
func wait(ctx context.Context, signals <-chan *dbus.Signal) bool {
	for {
		select {
		case <-ctx.Done():
			return false
		case s, open := <-signals:
			if !open {
				return false
			}
			if s.Name == reloaded || s.Name == owner && len(s.Body) == 3 && s.Body[0] == name && s.Body[2] != "" {
				return true
			}
		}
	}
}

// ensure adds the bridges that are in no zone; nothing is wrong when firewalld is not there.
func ensure(ctx context.Context, conn *dbus.Conn, bridges []string) (added bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var there bool
	if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, name).Store(&there); err != nil || !there {
		return false, err
	}
	firewall := conn.Object(name, object)
	zone, err := zone(ctx, firewall)
	if err != nil {
		return false, err
	}
	for _, b := range bridges {
		var in string
		if err := firewall.CallWithContext(ctx, zones+".getZoneOfInterface", 0, b).Store(&in); err != nil {
			return added, fmt.Errorf("ask firewalld for the zone of %s: %w", b, err)
		}
		if in != "" {
			continue
		}
		if err := firewall.CallWithContext(ctx, zones+".addInterface", 0, zone, b).Err; err != nil {
			return added, fmt.Errorf("add %s to the zone %s: %w", b, zone, err)
		}
		added = true
	}
	return added, nil
}

func zone(ctx context.Context, firewall dbus.BusObject) (string, error) {
	var all []string
	if err := firewall.CallWithContext(ctx, zones+".getZones", 0).Store(&all); err != nil {
		return "", fmt.Errorf("list the zones of firewalld: %w", err)
	}
	if slices.Contains(all, "docker") {
		return "docker", nil
	}
	return "trusted", nil
}

// Leave takes bridges out of the zone that Keep has put them into. One that the
// permanent configuration has in a zone stays there.
func Leave(ctx context.Context, bridges []string) error {
	conn, err := dbus.ConnectSystemBus(dbus.WithContext(ctx))
	if err != nil {
		return nil // no bus, no firewalld
	}
	defer conn.Close() //nolint:errcheck // nothing is buffered
	var there bool
	if err := conn.BusObject().CallWithContext(ctx, "org.freedesktop.DBus.NameHasOwner", 0, name).Store(&there); err != nil || !there {
		return err
	}
	firewall := conn.Object(name, object)
	ours, err := zone(ctx, firewall)
	if err != nil {
		return err
	}
	for _, b := range bridges {
		var in, always string
		if err := firewall.CallWithContext(ctx, zones+".getZoneOfInterface", 0, b).Store(&in); err != nil {
			return fmt.Errorf("ask firewalld for the zone of %s: %w", b, err)
		}
		if err := conn.Object(name, object+"/config").CallWithContext(ctx, name+".config.getZoneOfInterface", 0, b).Store(&always); err != nil {
			return fmt.Errorf("ask firewalld for the permanent zone of %s: %w", b, err)
		}
		if in != ours || always != "" {
			continue
		}
		if err := firewall.CallWithContext(ctx, zones+".removeInterface", 0, in, b).Err; err != nil {
			return fmt.Errorf("take %s out of the zone %s: %w", b, in, err)
		}
	}
	return nil
}
