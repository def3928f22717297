package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	specs "github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// access1 tries "rw c 1:3" on a node of its own, or with m making one, and says
// whether the device rules let it: a device without a driver is ENXIO, one that they
// keep is EPERM.
func access1(what string) bool {
	var mode, kind string
	var major, minor uint32
	if _, err := fmt.Sscanf(strings.ReplaceAll(what, ":", " "), "%s %s %d %d", &mode, &kind, &major, &minor); err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "access")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	typ := uint32(unix.S_IFCHR)
	if kind == "b" {
		typ = unix.S_IFBLK
	}
	node := filepath.Join(dir, "node")
	if err := unix.Mknod(node, typ|0o666, int(unix.Mkdev(major, minor))); mode == "m" || err != nil {
		return err == nil
	}
	flags := map[string]int{"r": unix.O_RDONLY, "w": unix.O_WRONLY, "rw": unix.O_RDWR}[mode]
	fd, err := unix.Open(node, flags|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err == nil {
		unix.Close(fd)
	}
	return err != unix.EPERM
}

// TestAccess holds rules of every kind to what they allow, by the v1 lists and by the
// program alike. Making nodes is always allowed, by the default rules.
func TestAccess(t *testing.T) {
	many := []specs.LinuxDeviceCgroup{denyAll}
	for i := range int64(400) {
		many = append(many, dev(true, "c", 300, i, "r"))
	}
	for _, tc := range []struct {
		why     string
		rules   []specs.LinuxDeviceCgroup
		yes, no string
		v2      bool // rules that v1 can't hold
	}{
		{why: "defaults", rules: nil, yes: "rw c 1:3, r c 5:0, rw c 136:77, m c 1:11, m b 7:0", no: "r c 1:11, r b 7:0, w c 10:200"},
		{why: "one number", rules: []specs.LinuxDeviceCgroup{denyAll, dev(true, "c", 1, 11, "rw")}, yes: "rw c 1:11", no: "r c 1:12, r b 1:11, r c 2:11"},
		{why: "reading alone", rules: []specs.LinuxDeviceCgroup{denyAll, dev(true, "c", 1, 11, "r")}, yes: "r c 1:11", no: "w c 1:11, rw c 1:11"},
		{why: "read and write by two rules", rules: []specs.LinuxDeviceCgroup{denyAll, dev(true, "c", 1, 11, "r"), dev(true, "c", 1, 11, "w")}, yes: "rw c 1:11, r c 1:11"},
		{why: "any minor", rules: []specs.LinuxDeviceCgroup{denyAll, dev(true, "b", 7, -1, "rw")}, yes: "r b 7:200, rw b 7:999", no: "r c 7:200, r b 8:0"},
		{why: "any major", rules: []specs.LinuxDeviceCgroup{denyAll, dev(true, "c", -1, 11, "r")}, yes: "r c 1:11, r c 77:11", no: "r c 1:12, r b 1:11"},
		{why: "a whole kind", rules: []specs.LinuxDeviceCgroup{denyAll, dev(true, "b", -1, -1, "rw")}, yes: "rw b 7:99", no: "r c 1:11"},
		{why: "both kinds of a number", rules: []specs.LinuxDeviceCgroup{denyAll, dev(true, "a", 7, 99, "r")}, yes: "r b 7:99, r c 7:99", no: "w b 7:99"},
		{why: "all", rules: []specs.LinuxDeviceCgroup{{Allow: true}}, yes: "rw c 1:11, rw b 7:99"},
		{why: "all but one", rules: []specs.LinuxDeviceCgroup{{Allow: true}, dev(false, "c", 1, 11, "rw")}, yes: "r c 1:12, rw b 7:99", no: "r c 1:11, rw c 1:11"},
		{why: "all but writing one", rules: []specs.LinuxDeviceCgroup{{Allow: true}, dev(false, "c", 1, 11, "w")}, yes: "r c 1:11", no: "rw c 1:11"},
		{why: "the later rule decides", rules: []specs.LinuxDeviceCgroup{denyAll, dev(true, "c", 1, 11, "rw"), dev(false, "c", 1, 11, "rw"), dev(true, "c", 1, 12, "r")}, yes: "r c 1:12", no: "r c 1:11"},
		{why: "a later denial of all", rules: []specs.LinuxDeviceCgroup{dev(true, "c", 1, 11, "rw"), denyAll, dev(true, "c", 1, 12, "r")}, yes: "r c 1:12", no: "r c 1:11"},
		{why: "a hole in what is allowed", rules: []specs.LinuxDeviceCgroup{denyAll, dev(true, "c", 77, -1, "rw"), dev(false, "c", 77, 5, "rw")}, yes: "r c 77:6", no: "r c 77:5", v2: true},
		{why: "many rules", rules: many, yes: "r c 300:0, r c 300:399", no: "r c 300:400, w c 300:7"},
	} {
		for name, make := range map[string]func(*testing.T) *Manager{"host": made, "unified": onUnified} {
			t.Run(tc.why+" "+name, func(t *testing.T) {
				m := make(t)
				_, err := m.Set(&specs.LinuxResources{Devices: tc.rules})
				if tc.v2 && name == "host" && m.Kind() != V2 {
					if err == nil {
						t.Error("v1 took what its lists can't hold")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				want := map[string]bool{}
				var args []string
				for list, ok := range map[string]bool{tc.yes: true, tc.no: false} {
					for a := range strings.SplitSeq(list, ", ") {
						if a != "" {
							want[a], args = ok, append(args, a)
						}
					}
				}
				p := startWith(t, "access", args)
				if err := m.AddPid(p.pid()); err != nil {
					t.Fatal(err)
				}
				out := p.act(t)
				for a, ok := range want {
					if !strings.Contains(out, fmt.Sprintf("%s %v\n", a, ok)) {
						t.Errorf("%s: not %v: %s", a, ok, out)
					}
				}
			})
		}
	}
}
