package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// setting is one write to a controller's file. Settings of one controller stand
// together in a plan.
type setting struct {
	controller, file, value string

	// alt is written instead where file does not exist.
	alt *setting
	// later: if the kernel calls the value invalid, write it once more after the
	// controller's other settings. For values that are checked against each
	// other (quota, period, burst), whose right order depends on the old ones.
	later bool
	// optional: a controller or file that does not exist is passed over.
	optional bool
}

// before is told of settings right before they are written, and of device rules
// unless they stay; what it gives is written in the settings' place.
type before func(ss []setting, rules []deviceRule) ([]setting, error)

// apply carries settings out. dirOf gives a controller's directory; false: the
// host has no such controller.
func apply(ss []setting, dirOf func(controller string) (string, bool)) error {
	var again []setting
	flush := func() error {
		defer func() { again = nil }()
		for _, s := range again {
			if err := s.write(dirOf); err != nil {
				return err
			}
		}
		return nil
	}
	for i, s := range ss {
		if i > 0 && s.controller != ss[i-1].controller {
			if err := flush(); err != nil {
				return err
			}
		}
		err := s.write(dirOf)
		if s.later && errors.Is(err, unix.EINVAL) {
			again = append(again, s)
			continue
		}
		if err != nil {
			return err
		}
	}
	return flush()
}

// change is apply to a cgroup in use: where the kernel refuses a setting, those before it
// are taken back.
func change(ss []setting, dirOf func(controller string) (string, bool)) error {
	old := present(ss, dirOf)
	err := apply(ss, dirOf)
	if err == nil {
		return nil
	}
	if back := apply(old, dirOf); back != nil {
		return fmt.Errorf("%w (and what had been set before stays: %w)", err, back)
	}
	return err
}

// present are the settings in force of what ss would set, in the order to take ss back.
// Lists, of devices mostly, are not among them.
func present(ss []setting, dirOf func(controller string) (string, bool)) (old []setting) {
	for _, s := range slices.Backward(ss) {
		dir, ok := dirOf(s.controller)
		if !ok {
			continue
		}
		if s.alt != nil && !exists(dir, s.file) {
			s = *s.alt
		}
		value, err := readFile(dir, s.file)
		if err != nil || strings.ContainsAny(value, "\n:") || strings.Contains(s.value, ":") {
			continue
		}
		old = append(old, setting{controller: s.controller, file: s.file, value: value + "\n", later: true}) // a cpuset may be empty
	}
	return old
}

func (s setting) write(dirOf func(string) (string, bool)) error {
	dir, ok := dirOf(s.controller)
	if !ok {
		if s.optional {
			return nil
		}
		return fmt.Errorf("set %s: the cgroup controller %q is not available: %w", s.file, s.controller, errdefs.ErrUnavailable)
	}
	err := writeFile(dir, s.file, s.value)
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	switch {
	case s.alt != nil:
		return s.alt.write(dirOf)
	case s.optional:
		return nil
	default:
		return fmt.Errorf("%w (no controller %q here, or this kernel lacks the file): %w", err, s.controller, errdefs.ErrUnavailable)
	}
}

// writeFile writes value in one write(2), as control files want.
func writeFile(dir, file, value string) error {
	f, err := os.OpenFile(filepath.Join(dir, file), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		_, err = f.WriteString(value)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("write %q: %w", value, err)
	}
	return nil
}

// readFile reads a control file whole, without the white space around it.
func readFile(dir, file string) (string, error) {
	b, err := readPlain(filepath.Join(dir, file))
	return strings.TrimSpace(string(b)), err
}

// readUint reads a file with one number; "max" and v1's near-2^63 read as
// 2^64-1.
func readUint(dir, file string) (uint64, error) {
	s, err := readFile(dir, file)
	if err != nil {
		return 0, err
	}
	return parseUint(s)
}

const unlimited = ^uint64(0)

func parseUint(s string) (uint64, error) {
	if s == "max" || s == "-1" {
		return unlimited, nil
	}
	return strconv.ParseUint(s, 10, 64)
}

func exists(dir, file string) bool {
	_, err := os.Stat(filepath.Join(dir, file))
	return err == nil
}

func itoa[T int64 | uint64 | uint32 | uint16](n T) string { return fmt.Sprint(n) }

// The checks that v1 and v2 share.

// checkPageSize takes a number and KB, MB or GB.
func checkPageSize(s string) error {
	number, ok := strings.CutSuffix(s, "B")
	if ok {
		number = strings.TrimRight(number, "KMG")
	}
	n, err := strconv.ParseUint(number, 10, 64)
	if unit := len(s) - len(number); err != nil || n == 0 || number[0] == '0' || unit != 2 {
		return fmt.Errorf("hugepage size %q: %w", s, errdefs.ErrInvalidArgument)
	}
	return nil
}

// rdmaLine is a device's line for rdma.max.
func rdmaLine(device string, r specs.LinuxRdma) (string, error) {
	if device == "" || strings.ContainsAny(device, " \n\x00") {
		return "", fmt.Errorf("rdma device %q: %w", device, errdefs.ErrInvalidArgument)
	}
	line := device
	if r.HcaHandles != nil {
		line += " hca_handle=" + itoa(*r.HcaHandles)
	}
	if r.HcaObjects != nil {
		line += " hca_object=" + itoa(*r.HcaObjects)
	}
	return line, nil
}

func device(d specs.LinuxBlockIODevice) string { return fmt.Sprintf("%d:%d", d.Major, d.Minor) }

// pidsMax: no limit is -1. 0 is 1, as systemd can't have it otherwise; neither lets a
// process in the cgroup start another.
func pidsMax(limit int64) string {
	if limit < 0 {
		return "max"
	}
	return itoa(max(limit, 1))
}
