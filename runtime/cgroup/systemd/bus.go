package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"
)

// Bus is a connection to systemd. Its methods are for one goroutine.
type Bus struct {
	conn   *dbus.Conn
	direct bool // to systemd itself, with no bus between
	jobs   chan *dbus.Signal
}

const (
	service    = "org.freedesktop.systemd1"
	objectPath = "/org/freedesktop/systemd1"
	manager    = "org.freedesktop.systemd1.Manager."
	busService = "org.freedesktop.DBus"
)

// Running says whether the host was booted with systemd, as sd_booted(3).
func Running() bool {
	st, err := os.Lstat("/run/systemd/system")
	return err == nil && st.IsDir()
}

// timeout is how long systemd may take for a job.
const timeout = 30 * time.Second

// Dial connects to the system's systemd by the system bus, or by its own socket where
// there is no bus; or to the user's by the session bus. Class: Unavailable.
func Dial(ctx context.Context, user bool) (*Bus, error) {
	var b *Bus
	var err error
	for wait := 100 * time.Millisecond; ; wait *= 2 {
		if user {
			b, err = dialUser(ctx)
		} else {
			b, err = dialSystem(ctx)
		}
		// A bus whose queue is full says to come again.
		if !errors.Is(err, unix.EAGAIN) || wait > 5*time.Second {
			break
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(wait):
		}
	}
	if err != nil {
		hint := ""
		if user || os.Geteuid() != 0 {
			hint = " (hint: for rootless containers, maybe you need to install the dbus-user-session package)"
		}
		return nil, fmt.Errorf("failed to connect to dbus%s: %w: %w", hint, err, errdefs.ErrUnavailable)
	}
	return b, nil
}

func dialSystem(ctx context.Context) (*Bus, error) {
	addr := os.Getenv("DBUS_SYSTEM_BUS_ADDRESS")
	if addr == "" {
		addr = "unix:path=/run/dbus/system_bus_socket"
	}
	b, err := dial(ctx, addr, false)
	if err == nil {
		return b, nil
	}
	own, ownErr := dial(ctx, "unix:path=/run/systemd/private", true)
	if ownErr != nil {
		return nil, errors.Join(err, ownErr)
	}
	return own, nil
}

func dialUser(ctx context.Context) (*Bus, error) {
	addr := os.Getenv("DBUS_SESSION_BUS_ADDRESS")
	if dir := os.Getenv("XDG_RUNTIME_DIR"); addr == "" && dir != "" {
		socket := filepath.Join(dir, "bus")
		if _, err := os.Stat(socket); err == nil {
			addr = "unix:path=" + dbus.EscapeBusAddressValue(socket)
		}
	}
	if addr == "" {
		return nil, errors.New("neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR names a session bus")
	}
	return dial(ctx, addr, false)
}

func dial(ctx context.Context, addr string, direct bool) (*Bus, error) {
	conn, err := dbus.Dial(addr, dbus.WithContext(ctx))
	if err != nil {
		return nil, err
	}
	if err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(outerUID()))}); err == nil && !direct {
		err = conn.Hello()
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("%s: %w", addr, err)
	}
	return &Bus{conn: conn, direct: direct}, nil
}

// outerUID is our uid as the bus sees it: in a user namespace, what ours is mapped to.
func outerUID() int {
	uid := os.Geteuid()
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return uid
	}
	for line := range strings.Lines(string(b)) {
		var inner, outer, n int
		if _, err := fmt.Sscan(line, &inner, &outer, &n); err == nil && uid >= inner && uid-inner < n {
			return outer + uid - inner
		}
	}
	return uid
}

// Close ends the connection.
func (b *Bus) Close() error { return b.conn.Close() }

func (b *Bus) call(ctx context.Context, method string, args ...any) *dbus.Call {
	return b.conn.Object(service, objectPath).CallWithContext(ctx, method, 0, args...)
}

// Version is systemd's: 252.
func (b *Bus) Version() (int, error) {
	s, err := b.property("Version")
	if err != nil {
		return 0, err
	}
	return parseVersion(s)
}

// parseVersion reads "252.36-1~deb12u1" and "v245.4-1.fc32".
func parseVersion(s string) (int, error) {
	s = strings.TrimPrefix(s, "v")
	if i := strings.IndexFunc(s, func(c rune) bool { return c < '0' || c > '9' }); i >= 0 {
		s = s[:i]
	}
	n, err := strconv.Atoi(s)
	if err != nil {
		return 0, fmt.Errorf("systemd's version %q: %w", s, err)
	}
	return n, nil
}

// ControlGroup is the cgroup that systemd's units are below.
func (b *Bus) ControlGroup() (string, error) { return b.property("ControlGroup") }

func (b *Bus) property(name string) (s string, err error) {
	var v dbus.Variant
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := b.call(ctx, "org.freedesktop.DBus.Properties.Get", strings.TrimSuffix(manager, "."), name).Store(&v); err != nil {
		return "", fmt.Errorf("ask systemd for %s: %w", name, err)
	}
	if err := v.Store(&s); err != nil {
		return "", fmt.Errorf("ask systemd for %s: %w", name, err)
	}
	return s, nil
}

// Start makes a unit and waits until it is there. A failed unit of that name, left
// by an earlier container, makes place. Class: AlreadyExists.
func (b *Bus) Start(ctx context.Context, unit string, props []Property) error {
	start := func() error {
		result, err := b.job(ctx, unit, "StartTransientUnit", unit, "replace", props, []auxUnit{})
		if err != nil {
			return err
		}
		if result != "done" {
			_ = b.ResetFailed(ctx, unit)
			return fmt.Errorf("error creating systemd unit `%s`: got `%s`", unit, result)
		}
		return nil
	}
	err := start()
	if isError(err, "UnitExists") {
		_ = b.ResetFailed(ctx, unit) // the second try tells
		err = start()
	}
	if isError(err, "UnitExists") {
		err = fmt.Errorf("%w: %w", err, errdefs.ErrAlreadyExists)
	}
	if err != nil {
		return fmt.Errorf("unable to start unit %q: %w", unit, err)
	}
	return nil
}

// auxUnit is one of StartTransientUnit's further units, which nobody uses.
type auxUnit struct {
	Name       string
	Properties []Property
}

// Stop ends a unit with all that is in it, waits for that and lets systemd forget it.
// No such unit is no error.
func (b *Bus) Stop(ctx context.Context, unit string) error {
	_, err := b.job(ctx, unit, "StopUnit", unit, "replace")
	if err == nil || isError(err, "NoSuchUnit") {
		_ = b.ResetFailed(ctx, unit) // one that has not failed is an error
		return nil
	}
	return fmt.Errorf("stop unit %q: %w", unit, err)
}

// ResetFailed lets systemd forget a failed unit.
func (b *Bus) ResetFailed(ctx context.Context, unit string) error {
	return b.call(ctx, manager+"ResetFailedUnit", unit).Err
}

// Set changes a unit's properties until the next boot.
func (b *Bus) Set(ctx context.Context, unit string, props []Property) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := b.call(ctx, manager+"SetUnitProperties", unit, true, props).Err; err != nil {
		return fmt.Errorf("unable to set unit properties: %w", err)
	}
	return nil
}

// Attach moves processes into a unit's cgroup, or below it into sub ("/init"): for
// those who may not do it by writing, since the processes come from where they have
// no say.
func (b *Bus) Attach(ctx context.Context, unit, sub string, pids ...uint32) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := b.call(ctx, manager+"AttachProcessesToUnit", unit, sub, pids).Err; err != nil {
		return fmt.Errorf("attach processes to unit %q: %w", unit, err)
	}
	return nil
}

// job calls what begins a job and waits for its result.
func (b *Bus) job(ctx context.Context, unit, method string, args ...any) (result string, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("timeout waiting for systemd: %s %s", method, unit))
	defer cancel()
	if err := b.listen(ctx); err != nil {
		return "", err
	}
	var job dbus.ObjectPath
	if err := b.call(ctx, manager+method, args...).Store(&job); err != nil {
		return "", err
	}
	for {
		select {
		case <-ctx.Done():
			return "", context.Cause(ctx)
		case <-b.conn.Context().Done():
			return "", errors.New("systemd has hung up")
		case sig, ok := <-b.jobs:
			if !ok {
				return "", errors.New("systemd has hung up")
			}
			var id uint32
			var removed dbus.ObjectPath
			var name string
			if dbus.Store(sig.Body, &id, &removed, &name, &result) == nil && removed == job {
				return result, nil
			}
		}
	}
}

// listen begins to hear of jobs' ends.
func (b *Bus) listen(ctx context.Context) error {
	if b.jobs != nil {
		return nil
	}
	if !b.direct {
		const match = "type='signal',sender='" + service + "',interface='org.freedesktop.systemd1.Manager',member='JobRemoved'"
		if err := b.conn.BusObject().CallWithContext(ctx, busService+".AddMatch", 0, match).Err; err != nil {
			return fmt.Errorf("hear of systemd's jobs: %w", err)
		}
	}
	if err := b.call(ctx, manager+"Subscribe").Err; err != nil && !isError(err, "AlreadySubscribed") {
		return fmt.Errorf("hear of systemd's jobs: %w", err)
	}
	b.jobs = make(chan *dbus.Signal, 32)
	b.conn.Signal(b.jobs)
	return nil
}

// isError tells systemd's errors by the last part of their names.
func isError(err error, name string) bool {
	e, ok := errors.AsType[dbus.Error](err)
	return ok && e.Name == service+"."+name
}
