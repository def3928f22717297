package cgroup

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// deviceRule is one line of device rules: later ones override earlier ones.
type deviceRule struct {
	deviceID
	access access
	allow  bool
}

// whole rules speak of every access to every device.
func (r deviceRule) whole() bool {
	return r.kind == 'a' && r.major == anyNumber && r.minor == anyNumber && r.access == mayAll
}

// deviceID is a device or a set of them; anyNumber stands for all numbers.
type deviceID struct {
	kind         byte // 'b', 'c' or 'a' for both
	major, minor int64
}

const anyNumber = -1

// access is a set of read, write and mknod.
type access uint8

const (
	mayMknod access = 1 << iota // the bits of BPF_DEVCG_ACC_*
	mayRead
	mayWrite
	mayAll = mayMknod | mayRead | mayWrite
)

func parseAccess(s string) (a access, err error) {
	for _, c := range s {
		switch c {
		case 'r':
			a |= mayRead
		case 'w':
			a |= mayWrite
		case 'm':
			a |= mayMknod
		default:
			return 0, fmt.Errorf("device access %q: %w", s, errdefs.ErrInvalidArgument)
		}
	}
	return a, nil
}

func (a access) String() string {
	s := ""
	for _, b := range []struct {
		bit  access
		name string
	}{{mayRead, "r"}, {mayWrite, "w"}, {mayMknod, "m"}} {
		if a&b.bit != 0 {
			s += b.name
		}
	}
	return s
}

func (d deviceID) String() string {
	num := func(n int64) string {
		if n == anyNumber {
			return "*"
		}
		return strconv.FormatInt(n, 10)
	}
	return fmt.Sprintf("%c %s:%s", d.kind, num(d.major), num(d.minor))
}

// defaultDevices are allowed in every container: the device nodes that the
// runtime specification promises, and making any node.
var defaultDevices = []deviceRule{
	{deviceID{'c', anyNumber, anyNumber}, mayMknod, true},
	{deviceID{'b', anyNumber, anyNumber}, mayMknod, true},
	{deviceID{'c', 1, 3}, mayAll, true},           // null
	{deviceID{'c', 1, 8}, mayAll, true},           // random
	{deviceID{'c', 1, 7}, mayAll, true},           // full
	{deviceID{'c', 5, 0}, mayAll, true},           // tty
	{deviceID{'c', 1, 5}, mayAll, true},           // zero
	{deviceID{'c', 1, 9}, mayAll, true},           // urandom
	{deviceID{'c', 136, anyNumber}, mayAll, true}, // pts
	{deviceID{'c', 5, 2}, mayAll, true},           // ptmx
	{deviceID{'c', 5, 1}, mayAll, true},           // console
}

// deviceRules turns a spec's rules to ours; defaults adds the default devices.
func deviceRules(in []specs.LinuxDeviceCgroup, defaults bool) ([]deviceRule, error) {
	var rules []deviceRule
	for _, d := range in {
		r, err := deviceRuleOf(d)
		if err != nil {
			return nil, err
		}
		if r.access != 0 {
			rules = append(rules, r)
		}
	}
	if defaults {
		rules = append(rules, defaultDevices...)
	}
	return rules, nil
}

func deviceRuleOf(d specs.LinuxDeviceCgroup) (r deviceRule, err error) {
	r.allow = d.Allow
	switch d.Type {
	case "", "a":
		r.kind = 'a'
	case "b", "c":
		r.kind = d.Type[0]
	default:
		return r, fmt.Errorf("device type %q: %w", d.Type, errdefs.ErrInvalidArgument)
	}
	num := func(n *int64) (int64, error) {
		switch {
		case n == nil || *n == anyNumber:
			return anyNumber, nil
		case *n < 0 || *n > math.MaxInt32:
			return 0, fmt.Errorf("device number %d: %w", *n, errdefs.ErrInvalidArgument)
		}
		return *n, nil
	}
	var e1, e2, e3 error
	r.major, e1 = num(d.Major)
	r.minor, e2 = num(d.Minor)
	r.access, e3 = parseAccess(d.Access)
	if d.Access == "" {
		r.access = mayAll
	}
	return r, errors.Join(e1, e2, e3)
}

// deviceList is the v1 controller's model: a default, and exceptions from it.
type deviceList struct {
	allow  bool
	except map[deviceID]access // denied ones when allow, else allowed ones
}

// listOf runs rules over a list that denies all. The kernel's model can't hold
// an exception from an exception: such a rule is refused.
func listOf(rules []deviceRule) (deviceList, error) {
	l := deviceList{except: map[deviceID]access{}}
	for _, r := range rules {
		if err := l.add(r); err != nil {
			return deviceList{}, err
		}
	}
	return l, nil
}

func (l *deviceList) add(r deviceRule) error {
	if r.kind == 'a' {
		if r.whole() {
			*l = deviceList{allow: r.allow, except: map[deviceID]access{}}
			return nil
		}
		for _, k := range []byte{'b', 'c'} {
			one := r
			one.kind = k
			if err := l.add(one); err != nil {
				return err
			}
		}
		return nil
	}
	if r.allow != l.allow {
		l.except[r.deviceID] |= r.access
		return nil
	}
	for id, acc := range l.except {
		switch {
		case acc&r.access == 0 || !overlap(id, r.deviceID):
		case covers(r.deviceID, id):
			if acc &^= r.access; acc == 0 {
				delete(l.except, id)
			} else {
				l.except[id] = acc
			}
		default:
			return fmt.Errorf("device rule %s %s: cgroup v1 can't take part of %s back: %w", r.deviceID, r.access, id, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

func covers(a, b deviceID) bool {
	return a.kind == b.kind && (a.major == anyNumber || a.major == b.major) && (a.minor == anyNumber || a.minor == b.minor)
}

func overlap(a, b deviceID) bool {
	same := func(x, y int64) bool { return x == anyNumber || y == anyNumber || x == y }
	return a.kind == b.kind && same(a.major, b.major) && same(a.minor, b.minor)
}

// parseList reads devices.list: "a *:* rwm" for a list that allows all, else the
// allowed ones. (What an allowing list denies can't be read back.)
func parseList(r io.Reader) (deviceList, error) {
	l := deviceList{except: map[deviceID]access{}}
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		var kind, num, acc string
		if _, err := fmt.Sscanf(sc.Text(), "%s %s %s", &kind, &num, &acc); err != nil || len(kind) != 1 {
			return l, fmt.Errorf("devices.list: bad line %q", sc.Text())
		}
		if kind == "a" {
			return deviceList{allow: true, except: map[deviceID]access{}}, nil
		}
		maj, min, _ := strings.Cut(num, ":")
		id := deviceID{kind: kind[0]}
		var e1, e2, e3 error
		var a access
		id.major, e1 = parseNumber(maj)
		id.minor, e2 = parseNumber(min)
		a, e3 = parseAccess(acc)
		if err := errors.Join(e1, e2, e3); err != nil {
			return l, fmt.Errorf("devices.list: bad line %q: %w", sc.Text(), err)
		}
		l.except[id] |= a
	}
	return l, sc.Err()
}

func parseNumber(s string) (int64, error) {
	if s == "*" {
		return anyNumber, nil
	}
	return strconv.ParseInt(s, 10, 64)
}

// planDevicesV1 gives the writes that lead from now to want. Between two
// denying lists only the differences are written, so that a running container
// never loses what both allow.
func planDevicesV1(now, want deviceList) (ss []setting) {
	write := func(allow bool, id string, a access) {
		file := "devices.deny"
		if allow {
			file = "devices.allow"
		}
		ss = append(ss, setting{controller: "devices", file: file, value: id + " " + a.String()})
	}
	if now.allow || want.allow {
		file := "devices.deny"
		if want.allow {
			file = "devices.allow"
		}
		ss = append(ss, setting{controller: "devices", file: file, value: "a"})
		now = deviceList{allow: want.allow}
	}
	for _, id := range sortedIDs(want.except) {
		if add := want.except[id] &^ now.except[id]; add != 0 {
			write(!want.allow, id.String(), add)
		}
	}
	for _, id := range sortedIDs(now.except) {
		if drop := now.except[id] &^ want.except[id]; drop != 0 {
			write(want.allow, id.String(), drop)
		}
	}
	return ss
}

func sortedIDs(m map[deviceID]access) []deviceID {
	return slices.SortedFunc(maps.Keys(m), func(a, b deviceID) int {
		return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.major, b.major), cmp.Compare(a.minor, b.minor))
	})
}
