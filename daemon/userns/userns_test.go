package userns

import (
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"

	"gantry/internal/testutil/need"
)

var one = Mapping{
	UIDMaps: []user.IDMap{{ID: 0, ParentID: 100000, Count: 65536}},
	GIDMaps: []user.IDMap{{ID: 0, ParentID: 200000, Count: 65536}},
}

// fakeUsers knows ann (7) and her group (7), and bob (8) without one.
type fakeUsers struct {
	known map[string]int
	added []string
	fail  error
}

func (f *fakeUsers) user(name string) (user.User, error) {
	if id, ok := f.known[name]; ok {
		return user.User{Name: name, Uid: id}, nil
	}
	return user.User{}, user.ErrNoPasswdEntries
}

func (f *fakeUsers) userID(id int) (user.User, error) {
	for name, n := range f.known {
		if n == id {
			return user.User{Name: name, Uid: id}, nil
		}
	}
	return user.User{}, user.ErrNoPasswdEntries
}

func (f *fakeUsers) group(name string) (user.Group, error) {
	if name != "ann" && name != "root" && name != "dockremap" {
		return user.Group{}, user.ErrNoGroupEntries
	}
	return user.Group{Name: name}, nil
}

func (f *fakeUsers) groupID(id int) (user.Group, error) {
	if id != 7 && id != 0 {
		return user.Group{}, user.ErrNoGroupEntries
	}
	return user.Group{Name: "ann"}, nil
}

func (f *fakeUsers) add(name string) error {
	f.added = append(f.added, name)
	return f.fail
}

func TestParseRemap(t *testing.T) {
	for _, c := range []struct {
		option, want, err string
		there             bool // the default user
		fail              error
		adds              bool
	}{
		{option: "ann", want: "ann"},
		{option: "7", want: "ann"},
		{option: "ann:ann", want: "ann"},
		{option: "7:7", want: "ann"},
		{option: "bob:7", want: "bob"},
		{option: "root", want: "root"},
		{option: "default", want: "dockremap", adds: true},
		{option: "default", want: "dockremap", there: true},
		{option: "default", err: `Error during "dockremap" user creation: no`, fail: errors.New("no"), adds: true},
		{option: "a:b:c", err: `Invalid user/group specification in --userns-remap: "a:b:c"`},
		{option: "eve", err: `Error during uid lookup for "eve": no matching entries in passwd file`},
		{option: "9", err: "Uid 9 has no entry in /etc/passwd: no matching entries in passwd file"},
		{option: "bob", err: `Error during gid lookup for "bob": no matching entries in group file`},
		{option: "8", err: "Gid 8 has no entry in /etc/group: no matching entries in group file"},
		{option: "ann:eve", err: `Error during groupname lookup for "eve": no matching entries in group file`},
		{option: "ann:9", err: "Gid 9 has no entry in /etc/passwd: no matching entries in group file"},
	} {
		t.Run(c.option, func(t *testing.T) {
			db := &fakeUsers{known: map[string]int{"ann": 7, "bob": 8, "root": 0}, fail: c.fail}
			if c.there {
				db.known["dockremap"] = 100
			}
			name, err := parseRemap(c.option, db)
			if c.err == "" && err != nil || c.err != "" && (err == nil || err.Error() != c.err) {
				t.Fatalf("error %v, want %q", err, c.err)
			}
			if name != c.want || (len(db.added) > 0) != c.adds {
				t.Errorf("user %q, added %v", name, db.added)
			}
		})
	}
}

func TestFreeRange(t *testing.T) {
	for _, c := range []struct {
		taken []user.SubID
		want  int64
	}{
		{nil, 100000},
		{[]user.SubID{{SubID: 100000, Count: 65536}}, 165536},
		{[]user.SubID{{SubID: 165536, Count: 65536}, {SubID: 100000, Count: 65536}}, 231072},
		{[]user.SubID{{SubID: 300000, Count: 10}}, 100000},
		{[]user.SubID{{SubID: 1, Count: 100000}}, 100001},
		{[]user.SubID{{SubID: 150000, Count: 10}}, 150010},
	} {
		if got := freeRange(c.taken); got != c.want {
			t.Errorf("%v: %d, want %d", c.taken, got, c.want)
		}
	}
}

func TestCheck(t *testing.T) {
	r := func(n ...int64) (list []user.IDMap) {
		for i := 0; i+2 < len(n); i += 3 {
			list = append(list, user.IDMap{ID: n[i], ParentID: n[i+1], Count: n[i+2]})
		}
		return list
	}
	for _, c := range []struct {
		name string
		list []user.IDMap
		ok   bool
	}{
		{"one", r(0, 100000, 65536), true},
		{"two", r(0, 5, 1, 1, 100000, 10), true},
		{"none", nil, false},
		{"without root", r(1, 100000, 65536), false},
		{"empty", r(0, 100000, 0), false},
		{"negative", r(0, -1, 5), false},
		{"too large", r(0, 1<<32-5, 10), false},
		{"overlap inside", r(0, 100000, 10, 5, 200000, 10), false},
		{"overlap outside", r(0, 100000, 10, 10, 100005, 10), false},
	} {
		if err := Check(Mapping{UIDMaps: c.list, GIDMaps: r(0, 1, 1)}); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestOptionsAndLabels(t *testing.T) {
	var options []string
	for k, v := range Labels(one) {
		options = append(options, strings.TrimSuffix(k[strings.LastIndex(k, "/")+1:], "ping")+"="+v)
	}
	m, rest, err := FromOptions(append(options, "index=off"))
	if err != nil || !Equal(m, one) || len(rest) != 1 || rest[0] != "index=off" {
		t.Errorf("%v %v %v from %v", m, rest, err, options)
	}
	if Labels(Mapping{}) != nil {
		t.Error("no mapping has labels")
	}
	for _, bad := range [][]string{{"uidmap=0:1:1"}, {"uidmap=0:1", "gidmap=0:1:1"}, {"uidmap=0:x:1", "gidmap=0:1:1"}} {
		if _, _, err := FromOptions(bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

func TestInside(t *testing.T) {
	for _, c := range []struct {
		m        Mapping
		uid, gid uint32
		u, g     int
	}{
		{one, 100000, 200001, 0, 1},
		{one, 165535, 265536, 65535, unmapped},
		{one, 0, 99999, unmapped, unmapped},
		{Mapping{}, 5, 6, 5, 6},
	} {
		if u, g := Inside(c.m, c.uid, c.gid); u != c.u || g != c.g {
			t.Errorf("%d:%d is %d:%d inside, want %d:%d", c.uid, c.gid, u, g, c.u, c.g)
		}
	}
}

func TestHold(t *testing.T) {
	need.Root(t, "makes user namespaces")
	var gone int
	err := Hold(one, unix.CLONE_NEWNET, func(pid int) error {
		gone = pid
		raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/uid_map")
		if got := strings.Fields(string(raw)); err != nil || strings.Join(got, " ") != "0 100000 65536" {
			t.Errorf("uid_map %q, %v", raw, err)
		}
		for _, ns := range []string{"user", "net"} {
			ours, _ := os.Readlink("/proc/self/ns/" + ns)
			if theirs, err := os.Readlink("/proc/" + strconv.Itoa(pid) + "/ns/" + ns); err != nil || theirs == ours {
				t.Errorf("%s namespace %s, %v", ns, theirs, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if unix.Kill(gone, 0) == nil {
		t.Error("the process is still there")
	}
}

func TestSupported(t *testing.T) {
	need.Root(t, "makes user namespaces")
	if err := Supported(one, t.TempDir()); err != nil {
		t.Error(err)
	}
	if err := Supported(one, "/proc"); err == nil || !strings.Contains(err.Error(), "the file system of /proc can't be mounted with other ids") {
		t.Errorf("procfs: %v", err)
	}
}

func TestOpen(t *testing.T) {
	need.Root(t, "makes user namespaces")
	a, err := Open(one)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := Open(one); err != nil || a != b {
		t.Errorf("a second namespace for the same ids, %v", err)
	}
	tree, err := unix.OpenTree(unix.AT_FDCWD, t.TempDir(), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(tree)
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_IDMAP, Userns_fd: uint64(a.Fd())}); err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Fstat(tree, &st); err != nil || st.Uid != 100000 || st.Gid != 200000 {
		t.Errorf("owner %d:%d, %v", st.Uid, st.Gid, err)
	}
}
