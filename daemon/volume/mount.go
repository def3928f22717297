package volume

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/sys/mount"
	"github.com/moby/sys/mountinfo"

	"gantry/api/errdefs"
	"gantry/api/failpoint"
)

// Mount makes the volume's content usable for user and returns its directory. A volume
// with type and device options is mounted by its first user.
func (s *Service) Mount(ctx context.Context, name, user string) (string, error) {
	unlock, err := s.lock(ctx, name)
	if err != nil {
		return "", err
	}
	defer unlock()
	e, err := s.find(name)
	if err != nil {
		return "", err
	}
	if needsMount(e.rec.Options) && !e.mounted {
		if err := mountOptions(ctx, e.rec.Options, s.data(name)); err != nil {
			return "", opError("mount", name, err)
		}
		failpoint.Hit("daemon/volume.mount.mounted")
		e.mounted = true
	}
	s.count(e, user, 1)
	return s.data(name), nil
}

// Unmount takes back one Mount of user; after the last one the options' mount goes.
func (s *Service) Unmount(ctx context.Context, name, user string) error {
	unlock, err := s.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	e, err := s.find(name)
	if err != nil {
		return err
	}
	s.count(e, user, -1)
	return s.unmountUnused(e)
}

// Release drops user's reference and mounts. It is fine when there are none.
func (s *Service) Release(ctx context.Context, name, user string) error {
	unlock, err := s.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	e := s.get(name)
	if e == nil {
		return nil
	}
	s.mu.Lock()
	delete(e.users, user)
	delete(e.mounts, user)
	s.mu.Unlock()
	return s.unmountUnused(e)
}

// Restore takes up again what a container had before the daemon started: a reference,
// and a mount if it still runs. NotFound when the volume has gone.
func (s *Service) Restore(ctx context.Context, name, user string, mounted bool) error {
	unlock, err := s.lock(ctx, name)
	if err != nil {
		return err
	}
	defer unlock()
	e, err := s.find(name)
	if err != nil {
		return err
	}
	s.refer(e, user)
	if mounted {
		s.count(e, user, 1)
	}
	return nil
}

// UnmountUnused takes away mounts that an earlier run has left and that no container has
// restored. Failures are logged: the last user's Unmount tries again.
func (s *Service) UnmountUnused(ctx context.Context) {
	for _, e := range s.all() {
		unlock, err := s.lock(ctx, e.rec.Name)
		if err != nil {
			return
		}
		if err := s.unmountUnused(e); err != nil {
			s.log.WarnContext(ctx, "unmount unused volume", "volume", e.rec.Name, "err", err)
		}
		unlock()
	}
}

func (s *Service) count(e *entry, user string, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.mounts[user] += n; e.mounts[user] <= 0 {
		delete(e.mounts, user)
	}
}

func (s *Service) inMounts(e *entry) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(e.mounts) > 0
}

// unmountUnused takes the options' mount away when nobody uses it. The caller holds
// the lane.
func (s *Service) unmountUnused(e *entry) error {
	if !e.mounted || s.inMounts(e) {
		return nil
	}
	path := s.data(e.rec.Name)
	if err := mount.Unmount(path); err != nil {
		if still, infoErr := mountinfo.Mounted(path); still || infoErr != nil {
			return opError("unmount", e.rec.Name, err)
		}
	}
	failpoint.Hit("daemon/volume.unmount.unmounted")
	e.mounted = false
	return nil
}

func needsMount(o map[string]string) bool { return o["device"] != "" || o["type"] != "" }

// mountOptions mounts what the options name. A password stays out of the error.
func mountOptions(ctx context.Context, o map[string]string, path string) error {
	device, options, err := resolveDevice(ctx, o, lookupIP)
	if err != nil {
		return err
	}
	if err := mount.Mount(device, path, o["type"], options); err != nil {
		return fmt.Errorf("failed to mount local volume: %w", hidePassword(err, o["o"]))
	}
	return nil
}

type redacted struct {
	text string
	err  error
}

func (r redacted) Error() string { return r.text }
func (r redacted) Unwrap() error { return r.err }

func hidePassword(err error, options string) error {
	for _, o := range strings.Split(options, ",") {
		if pw, ok := strings.CutPrefix(o, "password="); ok && pw != "" {
			return redacted{strings.ReplaceAll(err.Error(), "password="+pw, "password=********"), errors.Unwrap(err)}
		}
	}
	return err
}

func lookupIP(ctx context.Context, host string) (string, error) {
	ips, err := net.DefaultResolver.LookupIP(ctx, "ip", host)
	if err != nil {
		return "", fmt.Errorf("error resolving passed in network volume address: %w", err)
	}
	return ips[0].String(), nil
}

// resolveDevice replaces the server's name in the options of a network file system, or
// in the device of cifs, by its address: the kernel does not look names up.
func resolveDevice(ctx context.Context, o map[string]string, lookup func(context.Context, string) (string, error)) (device, options string, err error) {
	device, options = o["device"], o["o"]
	if device == "" {
		return "", "", errors.New("missing device in volume options")
	}
	if o["type"] != "nfs" && o["type"] != "cifs" {
		return device, options, nil
	}
	for _, opt := range strings.Split(options, ",") {
		host, ok := strings.CutPrefix(opt, "addr=")
		if !ok || net.ParseIP(host) != nil {
			continue
		}
		ip, err := lookup(ctx, host)
		if err != nil {
			return "", "", err
		}
		return device, strings.Replace(options, opt, "addr="+ip, 1), nil
	}
	if o["type"] == "cifs" {
		device, err = resolveShare(ctx, device, lookup)
	}
	return device, options, err
}

func resolveShare(ctx context.Context, device string, lookup func(context.Context, string) (string, error)) (string, error) {
	u, err := url.Parse(device)
	if err != nil {
		return "", fmt.Errorf("error parsing mount device url: %w", err)
	}
	if u.Host == "" || net.ParseIP(u.Host) != nil {
		return device, nil
	}
	if u.Host, err = lookup(ctx, u.Host); err != nil {
		return "", err
	}
	return url.QueryUnescape(u.String())
}

// needs are the options that make no sense alone.
var needs = []struct {
	option string
	others []string
}{
	{"device", []string{"type"}},
	{"o", []string{"device", "type"}},
	{"type", []string{"device"}},
}

// checkOptions are the local driver's rules.
func checkOptions(o map[string]string) error {
	for key := range o {
		switch key {
		case "type", "o", "device", "size":
		default:
			return errdefs.InvalidArgument("invalid option: %q", key)
		}
	}
	if o["type"] == "cifs" && o["device"] != "" {
		u, err := url.Parse(o["device"])
		if err != nil {
			return errdefs.InvalidArgument("error parsing mount device url: %w", err)
		}
		if u.Port() != "" {
			return errdefs.InvalidArgument("port not allowed in CIFS device URL, include 'port' in 'o='")
		}
	}
	if v, ok := o["size"]; ok {
		size, err := units.RAMInBytes(v)
		if err != nil {
			return errdefs.WithClass(errdefs.ErrInvalidArgument, err)
		}
		if size > 0 {
			return errdefs.InvalidArgument("quota size requested but no quota support")
		}
	}
	for _, n := range needs {
		if _, ok := o[n.option]; !ok {
			continue
		}
		for _, other := range n.others {
			if _, ok := o[other]; !ok {
				return errdefs.InvalidArgument("missing required option: %q", other)
			}
		}
	}
	return nil
}
