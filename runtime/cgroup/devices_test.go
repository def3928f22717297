package cgroup

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

func dev(allow bool, kind string, major, minor int64, acc string) specs.LinuxDeviceCgroup {
	return specs.LinuxDeviceCgroup{Allow: allow, Type: kind, Major: &major, Minor: &minor, Access: acc}
}

var denyAll = specs.LinuxDeviceCgroup{Allow: false, Access: "rwm"}

func listFor(t *testing.T, in ...specs.LinuxDeviceCgroup) deviceList {
	t.Helper()
	rules, err := deviceRules(in, false)
	if err != nil {
		t.Fatal(err)
	}
	l, err := listOf(rules)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestPlanDevicesV1(t *testing.T) {
	null, fuse := dev(true, "c", 1, 3, "rwm"), dev(true, "c", 10, 229, "rw")
	open := deviceList{allow: true}
	for _, tc := range []struct {
		why       string
		now, want deviceList
		plan      []string
	}{
		{"fresh, closed", open, listFor(t, denyAll, null, fuse), []string{"devices.deny=a", "devices.allow=c 1:3 rwm", "devices.allow=c 10:229 rw"}},
		{"nothing changes", listFor(t, null), listFor(t, denyAll, null), nil},
		{"only what differs", listFor(t, null), listFor(t, null, fuse), []string{"devices.allow=c 10:229 rw"}},
		{"less", listFor(t, null, fuse), listFor(t, null), []string{"devices.deny=c 10:229 rw"}},
		{"part of the access", listFor(t, dev(true, "c", 1, 3, "rwm")), listFor(t, dev(true, "c", 1, 3, "r")), []string{"devices.deny=c 1:3 wm"}},
		{"all", listFor(t, null), listFor(t, specs.LinuxDeviceCgroup{Allow: true}), []string{"devices.allow=a"}},
		{"all but one", listFor(t, null), listFor(t, specs.LinuxDeviceCgroup{Allow: true}, dev(false, "b", 8, -1, "w")), []string{"devices.allow=a", "devices.deny=b 8:* w"}},
		{"taken back", open, listFor(t, null, dev(false, "c", 1, 3, "rwm")), []string{"devices.deny=a"}},
		{"taken back by a wider rule", open, listFor(t, null, fuse, dev(false, "c", 1, -1, "rwm")), []string{"devices.deny=a", "devices.allow=c 10:229 rw"}},
		{"a number of both kinds", open, listFor(t, dev(true, "a", 7, 1, "r")), []string{"devices.deny=a", "devices.allow=b 7:1 r", "devices.allow=c 7:1 r"}},
	} {
		if got := lines(planDevicesV1(tc.now, tc.want)); !reflect.DeepEqual(got, tc.plan) {
			t.Errorf("%s: %q, want %q", tc.why, got, tc.plan)
		}
	}
}

func TestRefusedDevices(t *testing.T) {
	for _, d := range []specs.LinuxDeviceCgroup{
		dev(true, "p", 1, 1, "r"), dev(true, "c", -2, 1, "r"), dev(true, "c", 1<<40, 1, "r"), dev(true, "c", 1, 1, "rx"),
	} {
		if _, err := deviceRules([]specs.LinuxDeviceCgroup{d}, false); !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%+v: %v", d, err)
		}
	}
	rules, err := deviceRules([]specs.LinuxDeviceCgroup{dev(true, "c", 1, -1, "rwm"), dev(false, "c", 1, 3, "w")}, false)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listOf(rules); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("an exception from an exception: %v", err)
	}
}

func TestParseDeviceList(t *testing.T) {
	l, err := parseList(strings.NewReader("c 1:3 rwm\nb *:* m\nc 136:* rw\n"))
	want := map[deviceID]access{{'c', 1, 3}: mayAll, {'b', -1, -1}: mayMknod, {'c', 136, -1}: mayRead | mayWrite}
	if err != nil || l.allow || !reflect.DeepEqual(l.except, want) {
		t.Fatal(l, err)
	}
	if l, err := parseList(strings.NewReader("a *:* rwm\n")); err != nil || !l.allow {
		t.Fatal(l, err)
	}
	if _, err := parseList(strings.NewReader("c x:3 r\n")); err == nil {
		t.Fatal("taken")
	}
}
