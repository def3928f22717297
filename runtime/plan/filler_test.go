package plan_test

import (
	"path"
	"reflect"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// words are what a specification's strings are drawn from.
var words = []string{"", "/", "/a", "/a/../b", "a", "..", "/proc", "/proc/self", "/sys/fs/cgroup", "/dev", "/dev/ptmx", "/dev/null", "/dev/console",
	"bind", "tmpfs", "proc", "sysfs", "cgroup", "cgroup2", "overlay", "devpts", "mqueue", "ro", "rw", "rro", "rbind", "remount", "nosuid", "rnosuid",
	"size=1m", "mode=755", "tmpcopyup", "idmap", "ridmap", "shared", "rslave", "unbindable", "noatime", "strictatime", "lowerdir=/l", "c", "b", "p", "u",
	"net.ipv4.ip_forward", "kernel.shmmax", "user", "pid", "mount", "network", "ipc", "uts", "cgroup", "time", "monotonic", "boottime", "LINUX", "LINUX32",
	"SCHED_FIFO", "SCHED_DEADLINE", "SCHED_FLAG_RECLAIM", "IOPRIO_CLASS_BE", "RLIMIT_NOFILE", "CAP_KILL", "PATH=", "PATH=/bin::x", "HOME=/", "0-3", "1",
	"MPOL_BIND", "MPOL_F_STATIC_NODES", "default", "\x00", "ä\xff"}

// filler fills values with what its bytes say; when they end, with nothing.
type filler struct{ b []byte }

func (f *filler) next() int {
	if len(f.b) == 0 {
		return 0
	}
	n := int(f.b[0])
	f.b = f.b[1:]
	return n
}

func (f *filler) fill(v reflect.Value, depth int) {
	if depth > 8 {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(words[f.next()%len(words)])
	case reflect.Bool:
		v.SetBool(f.next()&1 != 0)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		v.SetInt(int64(int8(f.next())) << (f.next() % 56))
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(uint64(f.next()) << (f.next() % 56))
	case reflect.Pointer:
		if f.next()&3 == 3 {
			v.Set(reflect.New(v.Type().Elem()))
			f.fill(v.Elem(), depth+1)
		}
	case reflect.Slice:
		for range f.next() % 4 {
			e := reflect.New(v.Type().Elem()).Elem()
			f.fill(e, depth+1)
			v.Set(reflect.Append(v, e))
		}
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		for range f.next() % 3 {
			k, e := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			f.fill(k, depth+1)
			f.fill(e, depth+1)
			v.SetMapIndex(k, e)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Field(i).CanSet() {
				f.fill(v.Field(i), depth+1)
			}
		}
	}
}

// FuzzFields is FuzzPlan for specifications that are put together, and not validated: only
// what every one has is there.
func FuzzFields(f *testing.F) {
	f.Add([]byte("mounts"), uint32(0))
	f.Add(make([]byte, 300), ^uint32(0))
	seed := make([]byte, 600)
	for i := range seed {
		seed[i] = byte(i * 7)
	}
	f.Add(seed, uint32(0x5555))
	f.Fuzz(func(t *testing.T, b []byte, n uint32) {
		s, fill := spec(), &filler{b}
		s.Linux.Namespaces = s.Linux.Namespaces[:1]
		for _, part := range []any{&s.Mounts, &s.Linux.Devices, &s.Linux.MaskedPaths, &s.Linux.ReadonlyPaths, &s.Linux.Sysctl, &s.Linux.TimeOffsets,
			&s.Linux.RootfsPropagation, &s.Linux.Personality, &s.Linux.NetDevices, &s.Linux.MemoryPolicy, s.Process, s.Root, &s.Hostname, &s.Domainname} {
			fill.fill(reflect.ValueOf(part).Elem(), 0)
		}
		var more []specs.LinuxNamespace
		fill.fill(reflect.ValueOf(&more).Elem(), 0)
		s.Linux.Namespaces = append(s.Linux.Namespaces, more...)
		for i := range s.Mounts { // as package container hands them over
			s.Mounts[i].Source = path.Join("/", s.Mounts[i].Source)
		}
		for i := range s.Linux.Devices {
			s.Linux.Devices[i].Path = path.Join("/", s.Linux.Devices[i].Path)
		}
		wellFormed(t, s, bits(n))
	})
}
