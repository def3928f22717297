package rootfs

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

func TestParseOptions(t *testing.T) {
	for _, c := range []struct {
		options string
		want    Flags
	}{
		{"", Flags{}},
		{"rbind,ro,nosuid", Flags{Bind: true, Rec: true, Attr: program.Attr{Set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID}}},
		{"ro,rw", Flags{Attr: program.Attr{Clear: unix.MOUNT_ATTR_RDONLY}}},
		{"rw,ro", Flags{Attr: program.Attr{Set: unix.MOUNT_ATTR_RDONLY}}},
		{"rro,rnodev", Flags{Recursive: program.Attr{Set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NODEV}}},
		{"noatime,relatime", Flags{Attr: program.Attr{Clear: unix.MOUNT_ATTR__ATIME}}},
		{"strictatime", Flags{Attr: program.Attr{Set: unix.MOUNT_ATTR_STRICTATIME, Clear: unix.MOUNT_ATTR__ATIME}}},
		{"rstrictatime", Flags{Recursive: program.Attr{Set: unix.MOUNT_ATTR_STRICTATIME, Clear: unix.MOUNT_ATTR__ATIME}}},
		{"rprivate", Flags{Propagation: []uint64{unix.MS_PRIVATE | unix.MS_REC}}},
		{"shared", Flags{Propagation: []uint64{unix.MS_SHARED}}},
		{"sync,size=5,newinstance,defaults", Flags{Super: []string{"sync"}, Data: []string{"size=5", "newinstance"}}},
		{"ridmap", Flags{IDMap: true, RecIDMap: true}},
		{"tmpcopyup", Flags{CopyUp: true}},
		{"rslave,shared", Flags{Propagation: []uint64{unix.MS_SLAVE | unix.MS_REC, unix.MS_SHARED}}},
		{"bind,remount", Flags{Bind: true, Remount: true}},
		{"rrelatime", Flags{Recursive: program.Attr{Clear: unix.MOUNT_ATTR__ATIME}}},
		{"ro,rrw", Flags{Attr: program.Attr{Set: unix.MOUNT_ATTR_RDONLY}, Recursive: program.Attr{Clear: unix.MOUNT_ATTR_RDONLY}}},
	} {
		if got := ParseOptions(strings.Split(c.options, ",")); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%q: %+v, want %+v", c.options, got, c.want)
		}
	}
}

// TestBindAttr: an attribute that is named turns off those that are not.
func TestBindAttr(t *testing.T) {
	for _, c := range []struct {
		options string
		want    program.Attr
	}{
		{"rbind,rprivate", program.Attr{}},
		{"bind,ro", program.Attr{Set: unix.MOUNT_ATTR_RDONLY, Clear: bindAttrs &^ unix.MOUNT_ATTR_RDONLY}},
		{"bind,rw", program.Attr{Clear: bindAttrs}},
		{"bind,noatime", program.Attr{Set: unix.MOUNT_ATTR_NOATIME, Clear: unix.MOUNT_ATTR__ATIME | bindAttrs}},
	} {
		if got := ParseOptions(strings.Split(c.options, ",")).BindAttr(); got != c.want {
			t.Errorf("%q: %+v, want %+v", c.options, got, c.want)
		}
	}
}

func TestKnownOptions(t *testing.T) {
	list := KnownOptions()
	for _, o := range []string{"rro", "rnosymfollow", "ratime", "rstrictatime", "remount", "idmap", "tmpcopyup", "runbindable", "lazytime", "noiversion"} {
		if !slices.Contains(list, o) {
			t.Errorf("%q is missing", o)
		}
	}
}

func TestSplitLower(t *testing.T) {
	lower, rest := splitLower([]string{"index=off", `lowerdir=/a\:b:/c`, "upperdir=/u"})
	if !reflect.DeepEqual(lower, []string{"/a:b", "/c"}) || !reflect.DeepEqual(rest, []string{"index=off", "upperdir=/u"}) {
		t.Errorf("%q %q", lower, rest)
	}
	if got := joinLower(lower); got != `/a\:b:/c` {
		t.Errorf("joined %q", got)
	}
}

func TestCommonDir(t *testing.T) {
	for _, c := range []struct {
		paths []string
		want  string
	}{
		{[]string{"/s/1/fs", "/s/2/fs"}, "/s"},
		{[]string{"/s/1/fs"}, "/s/1"},
		{[]string{"/a", "/b"}, "/"},
		{[]string{"/s/12/fs", "/s/1/fs"}, "/s"},
	} {
		if got := commonDir(c.paths); got != c.want {
			t.Errorf("%q: %s, want %s", c.paths, got, c.want)
		}
	}
}
