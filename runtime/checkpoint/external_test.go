package checkpoint

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/cgroup"
)

func pairs(list []*rpc.ExtMountMap) (s []string) {
	for _, m := range list {
		s = append(s, m.GetKey()+"="+m.GetVal())
	}
	return s
}

// TestOutsideMounts: a dump and the restore after it name the same places, links of
// the root resolved.
func TestOutsideMounts(t *testing.T) {
	root := t.TempDir()
	os.MkdirAll(filepath.Join(root, "real"), 0o755)
	os.Symlink("/real", filepath.Join(root, "link"))
	os.Symlink("/../../real", filepath.Join(root, "up"))
	spec := &specs.Spec{
		Root: &specs.Root{Path: root},
		Mounts: []specs.Mount{
			{Destination: "/proc", Type: "proc", Source: "proc"},
			{Destination: "/link/conf", Type: "bind", Source: "/srv/conf"},
			{Destination: "/up/data", Type: "none", Source: "/srv/data", Options: []string{"rbind", "ro"}},
			{Destination: "/sys/fs/cgroup", Type: "cgroup", Source: "cgroup"},
		},
		Linux: &specs.Linux{MaskedPaths: []string{"/proc/keys"}},
	}
	shown := []cgroup.Hierarchy{{Name: "memory", Path: "/sys/fs/cgroup/memory/c1"}}
	real := stored(root)
	dump, err := dumpMounts(spec, shown, real)
	if want := []string{"/real/conf=/real/conf", "/real/data=/real/data", "/sys/fs/cgroup/memory=/sys/fs/cgroup/memory"}; err != nil || !reflect.DeepEqual(pairs(dump), want) {
		t.Errorf("dump %q, %v; want %q", pairs(dump), err, want)
	}
	restore, err := restoreMounts(spec, shown, real)
	if want := []string{"/real/conf=/srv/conf", "/real/data=/srv/data", "/sys/fs/cgroup/memory=/sys/fs/cgroup/memory/c1", "/dev/null=/dev/null"}; err != nil || !reflect.DeepEqual(pairs(restore), want) {
		t.Errorf("restore %q, %v; want %q", pairs(restore), err, want)
	}
	spec.Linux.Namespaces = []specs.LinuxNamespace{{Type: specs.UserNamespace}}
	if list, _ := restoreMounts(spec, nil, real); !strings.Contains(strings.Join(pairs(list), " "), "/dev/zero=/dev/zero") {
		t.Errorf("in a user namespace devices are binds: %q", pairs(list))
	}
}

// TestRunningRoot: in a root that is in use a mount is found where it is.
func TestRunningRoot(t *testing.T) {
	dir := t.TempDir()
	os.MkdirAll(filepath.Join(dir, "real", "in"), 0o755)
	os.Symlink("/real", filepath.Join(dir, "link"))
	root, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	for path, want := range map[string]string{"/link/in": "/real/in", "/": "/", "/real/../real": "/real", "/../link": "/real"} {
		if got, err := running(root)(path); got != want || err != nil {
			t.Errorf("%s: %s, %v; want %s", path, got, err, want)
		}
	}
	if _, err := running(root)("/nope"); err == nil {
		t.Error("a place that is not there is found")
	}
}

func TestNamespaces(t *testing.T) {
	self := func(kind specs.LinuxNamespaceType, file string) *specs.Spec {
		return &specs.Spec{Linux: &specs.Linux{Namespaces: []specs.LinuxNamespace{{Type: kind, Path: "/proc/self/ns/" + file}}}}
	}
	list, err := dumpNamespaces(self(specs.NetworkNamespace, "net"), versionExtNet)
	if err != nil || len(list) != 1 || !strings.HasPrefix(list[0], "net[") || !strings.HasSuffix(list[0], "]:extRootNetNS") {
		t.Errorf("%q, %v", list, err)
	}
	if _, err := dumpNamespaces(self(specs.PIDNamespace, "pid"), versionExtPid-1); err == nil || !strings.Contains(err.Error(), "lacks support for external pid namespace") {
		t.Error(err)
	}
	g, err := restoreNamespaces(self(specs.PIDNamespace, "pid"), versionExtPid, 4)
	if err != nil || len(g.files) != 1 || g.inherit[0].GetKey() != "extRootPidNS" || g.inherit[0].GetFd() != 4 {
		t.Errorf("%+v, %v", g, err)
	}
	g.close()
	if g, err := restoreNamespaces(self(specs.IPCNamespace, "ipc"), versionExtPid, 4); err != nil || len(g.join) != 1 || g.join[0].GetNs() != "ipc" {
		t.Errorf("%+v, %v", g, err)
	}
	if _, err := restoreNamespaces(self(specs.CgroupNamespace, "cgroup"), versionExtPid, 4); err == nil {
		t.Error("a cgroup namespace can be joined")
	}
}

func TestCgroupRoots(t *testing.T) {
	var got []string
	for _, r := range cgroupRoots([]byte("12:cpu,cpuacct:/a\n1:name=systemd:/b:c\n0::/d\nnonsense\n")) {
		got = append(got, r.GetCtrl()+"="+r.GetPath())
	}
	if want := []string{"cpu=/a", "cpuacct=/a", "name=systemd=/b:c", "=/d"}; !reflect.DeepEqual(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestLastErrors(t *testing.T) {
	log := filepath.Join(t.TempDir(), "dump.log")
	os.WriteFile(log, []byte("(00.1) fine\n(00.2) Error (a.c:1): one\n(00.3)  1: Error (a.c:2): two\n(00.4) more\n(00.5) Error (b.c:3): three\n(00.6) Error (c.c:4): four\n"), 0o600)
	err := explain(os.ErrInvalid, log)
	if want := "invalid argument: Error (a.c:2): two; Error (b.c:3): three; Error (c.c:4): four; the log is " + log; err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if err := explain(os.ErrInvalid, log+".none"); err != os.ErrInvalid {
		t.Error(err)
	}
}

func TestConfigFile(t *testing.T) {
	for name, c := range map[string]struct {
		annotations map[string]string
		want        string
	}{
		"none":  {nil, defaultConfig},
		"own":   {map[string]string{"org.criu.config": "/etc/mine"}, "/etc/mine"},
		"empty": {map[string]string{"org.criu.config": ""}, ""},
	} {
		var o rpc.CriuOpts
		configFile(&o, c.annotations)
		if o.GetConfigFile() != c.want {
			t.Errorf("%s: %q, want %q", name, o.GetConfigFile(), c.want)
		}
	}
}

func TestCgroupsMode(t *testing.T) {
	if _, err := (&Options{CgroupsMode: "hard"}).request(); err == nil {
		t.Error("an unknown mode is taken")
	}
	o, err := (&Options{CgroupsMode: "ignore"}).request()
	if err != nil || o.GetManageCgroupsMode() != rpc.CriuCgMode_IGNORE {
		t.Error(o, err)
	}
}

// TestNetworkLock is for a host without iptables.
func TestNetworkLock(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for _, c := range []struct {
		name    string
		version int
		tcp     bool
		want    rpc.CriuNetworkLockMethod // 0: CRIU's default
	}{
		{"nothing to keep", 31800, false, rpc.CriuNetworkLockMethod_SKIP},
		{"connections", 31800, true, rpc.CriuNetworkLockMethod_NFTABLES},
		{"nothing to keep, no skip yet", 31701, false, rpc.CriuNetworkLockMethod_NFTABLES},
		{"no nftables yet", 31600, true, 0},
	} {
		var o rpc.CriuOpts
		(&Options{TCPEstablished: c.tcp}).lockNetwork(&o, c.version)
		if o.NetworkLock != nil && *o.NetworkLock != c.want || o.NetworkLock == nil && c.want != 0 {
			t.Errorf("%s: %v", c.name, o.NetworkLock)
		}
	}
}
