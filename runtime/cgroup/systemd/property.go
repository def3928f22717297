package systemd

import (
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/godbus/dbus/v5"
)

// Property is one of a unit's, as systemd.resource-control(5) and its kin name them
// for D-Bus: times are in microseconds and end in USec.
type Property struct {
	Name  string
	Value dbus.Variant
}

// Prop makes a Property of a Go value of the right type: uint64 and not int.
func Prop(name string, value any) Property { return Property{name, dbus.MakeVariant(value)} }

func (p Property) String() string { return p.Name + "=" + p.Value.String() }

// Infinity is no limit.
const Infinity = ^uint64(0)

// DeviceAllow is an entry of the property of that name.
type DeviceAllow struct {
	Path   string // "/dev/char/1:3", "char-136", "block-*"
	Access string // of r, w and m
}

// IOLimit is an entry of IOReadBandwidthMax and its kin: bytes or operations a second.
type IOLimit struct {
	Path  string // "/dev/block/8:0"
	Limit uint64
}

// Properties are those that a container's unit is made with; pid is a process that a
// scope begins with.
func (u Unit) Properties(version Kind, container string, pid int, extra []Property) []Property {
	props := []Property{Prop("Description", "container "+container)}
	if u.IsSlice() { // its place is in its name; who wants it keeps the one above
		props = append(props, Prop("Wants", []string{u.Slice}))
	} else {
		props = append(props, Prop("Slice", u.Slice), Prop("Delegate", true), Prop("PIDs", []uint32{uint32(pid)}))
	}
	io := "IOAccounting"
	if version == V1 {
		io = "BlockIOAccounting"
	}
	for _, name := range []string{"MemoryAccounting", "CPUAccounting", io, "TasksAccounting"} {
		props = append(props, Prop(name, true))
	}
	return append(append(props, Prop("DefaultDependencies", false)), extra...)
}

// Kind is the version of cgroups that systemd uses for its controllers.
type Kind int

// The kinds.
const (
	V1 Kind = 1
	V2 Kind = 2
)

const annotationPrefix = "org.systemd.property."

// Annotations are the properties that a spec asks for by org.systemd.property.NAME,
// in the order of their names. Values are in GVariant's text form: "uint64 1000000",
// "'text'", "true". A time under systemd's documented name (TimeoutStopSec) is in
// seconds and becomes its USec. Class: InvalidArgument.
func Annotations(annotations map[string]string) ([]Property, error) {
	var props []Property
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		name, ok := strings.CutPrefix(key, annotationPrefix)
		if !ok {
			continue
		}
		p, err := annotation(name, annotations[key])
		if err != nil {
			return nil, fmt.Errorf("annotation %s=%s: %w: %w", key, annotations[key], err, errdefs.ErrInvalidArgument)
		}
		props = append(props, p)
	}
	return props, nil
}

func annotation(name, value string) (p Property, err error) {
	letter := func(c rune) bool { return c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z' }
	if len(name) < 3 {
		return p, fmt.Errorf("name incorrect: too short")
	}
	if strings.ContainsFunc(name, func(c rune) bool { return !letter(c) }) {
		return p, fmt.Errorf("name incorrect: contains non-alphabetic character")
	}
	if err := checkText(value); err != nil {
		return p, err
	}
	v, err := dbus.ParseVariant(value, dbus.Signature{})
	if err != nil {
		return p, fmt.Errorf("value parse error: %w", err)
	}
	stem, ok := strings.CutSuffix(name, "Sec")
	if !ok || stem == "" || stem[len(stem)-1] < 'a' {
		return Property{name, v}, nil
	}
	usec, err := microseconds(v)
	return Prop(stem+"USec", usec), err
}

// The bounds of a value's text. The parser's time doubles, and worse, with each level
// of braces; no property of a scope is a dictionary, or nested deeper.
const (
	maxText  = 4096
	maxDepth = 4
)

func checkText(value string) error {
	if len(value) > maxText {
		return fmt.Errorf("value parse error: longer than %d bytes", maxText)
	}
	depth := 0
	var quote rune // that we are in
	escaped := false
	for _, c := range value {
		switch {
		case escaped:
			escaped = false
		case quote != 0 && c == '\\':
			escaped = true
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
		case c == '\'' || c == '"':
			quote = c
		case c == '{':
			return fmt.Errorf("value parse error: dictionaries are not supported")
		case c == '[' || c == '(' || c == '<':
			depth++
		case c == ']' || c == ')' || c == '>':
			depth--
		}
		if depth > maxDepth {
			return fmt.Errorf("value parse error: nested deeper than %d", maxDepth)
		}
	}
	return nil
}

// microseconds takes any number of seconds.
func microseconds(v dbus.Variant) (uint64, error) {
	const second = 1_000_000
	var n uint64
	switch x := v.Value().(type) {
	case float64:
		if x < 0 || x > 1e12 {
			return 0, fmt.Errorf("%v seconds are out of range", x)
		}
		return uint64(x * second), nil
	case byte:
		n = uint64(x)
	case uint16:
		n = uint64(x)
	case uint32:
		n = uint64(x)
	case uint64:
		n = x
	case int16:
		n = uint64(x)
	case int32:
		n = uint64(x)
	case int64:
		n = uint64(x)
	default:
		return 0, fmt.Errorf("%s is not a number", v)
	}
	if hi, lo := bits.Mul64(n, second); hi == 0 {
		return lo, nil
	}
	return 0, fmt.Errorf("%v seconds are out of range", v)
}

// maxBit bounds a set of processors or nodes; the kernel's own bounds are below.
const maxBit = 1 << 16

// Bits turns a list of processors or nodes ("0-3,7") to AllowedCPUs' form, a bit each.
// Class: InvalidArgument.
func Bits(list string) (set []byte, err error) {
	if len(list) > maxText {
		return nil, fmt.Errorf("a list of %d bytes of processors or nodes: %w", len(list), errdefs.ErrInvalidArgument)
	}
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		first, last, ranged := strings.Cut(part, "-")
		if !ranged {
			last = first
		}
		from, e1 := strconv.ParseUint(first, 10, 32)
		to, e2 := strconv.ParseUint(last, 10, 32)
		if e1 != nil || e2 != nil || from > to || to >= maxBit {
			return nil, fmt.Errorf("invalid range: %s: %w", part, errdefs.ErrInvalidArgument)
		}
		for i := from; i <= to; i++ {
			for len(set) <= int(i/8) {
				set = append(set, 0)
			}
			set[i/8] |= 1 << (i % 8)
		}
	}
	if len(set) == 0 {
		return nil, fmt.Errorf("an empty list of processors or nodes: %w", errdefs.ErrInvalidArgument)
	}
	return set, nil
}
