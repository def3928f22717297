package plan_test

import (
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/plan"
)

// TestGoldenMounts pins the program of each kind of mount.
func TestGoldenMounts(t *testing.T) {
	ids := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 10}}
	for name, change := range map[string]func(s *specs.Spec, o *plan.Options){
		"bind-options": func(s *specs.Spec, o *plan.Options) {
			s.Mounts = []specs.Mount{
				m("/plain", "bind", "/src", "rbind", "rprivate"), m("/ro", "bind", "/src", "bind", "ro", "nosuid"),
				m("/deep", "none", "/src", "rbind", "rro", "rnoatime"), m("/chain", "bind", "/src", "rbind", "rslave", "shared"),
			}
		},
		"tmpfs-like-beneath": func(s *specs.Spec, o *plan.Options) {
			s.Mounts = []specs.Mount{m("/run", "tmpfs", "tmpfs", "nosuid"), m("/said", "tmpfs", "tmpfs", "mode=700", "lazytime")}
		},
		"tmpcopyup": func(s *specs.Spec, o *plan.Options) {
			s.Mounts = []specs.Mount{m("/var", "tmpfs", "tmpfs", "tmpcopyup", "size=1m"), m("/etc", "tmpfs", "tmpfs", "tmpcopyup", "mode=755", "uid=5")}
		},
		"remount": func(s *specs.Spec, o *plan.Options) {
			s.Mounts = []specs.Mount{m("/data", "", "", "bind", "remount", "ro"), m("/t", "tmpfs", "", "remount", "size=5k", "nodev", "private")}
		},
		"idmap": func(s *specs.Spec, o *plan.Options) {
			own := m("/own", "bind", "/src", "rbind", "ridmap")
			own.UIDMappings, own.GIDMappings = ids, ids
			s.Mounts = []specs.Mount{own}
		},
		"idmap-user-namespace": func(s *specs.Spec, o *plan.Options) {
			add(s, specs.UserNamespace)
			s.Linux.UIDMappings, s.Linux.GIDMappings = ids, ids
			s.Mounts = []specs.Mount{m("/of-container", "bind", "/src", "bind", "idmap")}
		},
		"sysfs-host-network": func(s *specs.Spec, o *plan.Options) {
			add(s, specs.UserNamespace)
			s.Mounts = []specs.Mount{m("/sys", "sysfs", "sysfs", "ro", "nosuid")}
		},
		"device-filesystem": func(s *specs.Spec, o *plan.Options) {
			s.Mounts = []specs.Mount{m("/disk", "ext4", "/dev/sdb1", "ro", "noatime")}
		},
		"devices": func(s *specs.Spec, o *plan.Options) {
			mode, id := os.FileMode(0o20600), uint32(7)
			s.Linux.Devices = []specs.LinuxDevice{
				{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229, FileMode: &mode, UID: &id},
				{Path: "/dev/tty", Type: "u", Major: 5}, {Path: "/srv/pipe", Type: "p", Major: 3},
				{Path: "/dev/ptmx", Type: "c", Major: 5, Minor: 2},
			}
		},
		"devices-without-mknod": func(s *specs.Spec, o *plan.Options) {
			s.Linux.Devices = []specs.LinuxDevice{{Path: "/dev/fuse", Type: "c", Major: 10, Minor: 229}, {Path: "/dev/pipe", Type: "p"}}
			o.Creator.NoDevices = true
		},
		"mount-label": func(s *specs.Spec, o *plan.Options) {
			o.Process.MountLabel = `context="system_u:object_r:container_file_t:s0"`
			s.Mounts = []specs.Mount{m("/proc", "proc", "proc"), m("/t", "tmpfs", "", "mode=1"), m("/dev/pts", "devpts", ""), m("/dev/mqueue", "mqueue", "")}
			s.Linux.MaskedPaths = []string{"/proc/acpi"}
		},
		"cgroup2-beside-v1": func(s *specs.Spec, o *plan.Options) {
			s.Mounts = []specs.Mount{m("/cg", "cgroup2", "cgroup2", "ro")}
			o.Cgroups = hybrid
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := spec()
			o := plan.Options{ID: "c", RootPath: s.Root.Path, Start: true, Process: plan.Process{HaveCaps: 0xff}}
			change(s, &o)
			p, err := plan.Create(s, o)
			golden(t, name, p, err)
		})
	}
}

func TestRootlessIDMapIsRefused(t *testing.T) {
	s := spec()
	add(s, specs.UserNamespace)
	s.Linux.UIDMappings = []specs.LinuxIDMapping{{ContainerID: 0, HostID: 1000, Size: 1}}
	s.Mounts = []specs.Mount{m("/m", "bind", "/src", "bind", "idmap")}
	o := plan.Options{RootPath: s.Root.Path, Creator: plan.Creator{Unprivileged: true}}
	if _, err := plan.Create(s, o); err == nil || !strings.Contains(err.Error(), "mount /m: id-mapped mounts are not supported for rootless containers") {
		t.Errorf("error %v", err)
	}
}
