package rootfs

import (
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"gantry/runtime/program"
)

// Flags is what mount options ask of a mount and its filesystem.
type Flags struct {
	Attr        program.Attr // of the mount alone
	Recursive   program.Attr // of it and all mounts below ("rro", "rnosuid")
	Propagation []uint64     // each MS_PRIVATE, MS_SLAVE, MS_SHARED or MS_UNBINDABLE, MS_REC beside it for the r-forms; set in turn
	Bind        bool         // bind or rbind
	Rec         bool         // rbind
	Remount     bool         // change the mount that is there
	Super       []string     // flags of the filesystem itself: "sync", "dirsync", "lazytime", "ro"
	Data        []string     // options of the filesystem: "size=64k", "newinstance"
	IDMap       bool         // idmap or ridmap
	RecIDMap    bool         // ridmap
	CopyUp      bool         // tmpcopyup
}

// bindAttrs are the attributes of a mount that one bind mount decides as a whole: see
// BindAttr. Those of access times stay the source's where no option names them.
const bindAttrs = unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV |
	unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOSYMFOLLOW

// BindAttr is Attr for a bind or a remount: once an option names an attribute, the others
// are not the source's but off, as with mount(2) and runc. The kernel may refuse that to a
// user namespace, whose mounts have attributes that are locked; then Attr alone is right.
func (f Flags) BindAttr() program.Attr {
	a := f.Attr
	if !a.Zero() {
		a.Clear |= bindAttrs &^ a.Set
	}
	return a
}

// Has says whether the filesystem's own options have a value for key.
func (f Flags) Has(key string) bool {
	return slices.ContainsFunc(f.Data, func(o string) bool {
		k, _, _ := strings.Cut(o, "=")
		return k == key
	})
}

// ReadOnly says whether the mount itself is read-only.
func (f Flags) ReadOnly() bool { return f.Attr.Set&unix.MOUNT_ATTR_RDONLY != 0 }

var attrOptions = map[string]program.Attr{
	"ro":            {Set: unix.MOUNT_ATTR_RDONLY},
	"rw":            {Clear: unix.MOUNT_ATTR_RDONLY},
	"nosuid":        {Set: unix.MOUNT_ATTR_NOSUID},
	"suid":          {Clear: unix.MOUNT_ATTR_NOSUID},
	"nodev":         {Set: unix.MOUNT_ATTR_NODEV},
	"dev":           {Clear: unix.MOUNT_ATTR_NODEV},
	"noexec":        {Set: unix.MOUNT_ATTR_NOEXEC},
	"exec":          {Clear: unix.MOUNT_ATTR_NOEXEC},
	"nodiratime":    {Set: unix.MOUNT_ATTR_NODIRATIME},
	"diratime":      {Clear: unix.MOUNT_ATTR_NODIRATIME},
	"nosymfollow":   {Set: unix.MOUNT_ATTR_NOSYMFOLLOW},
	"symfollow":     {Clear: unix.MOUNT_ATTR_NOSYMFOLLOW},
	"noatime":       {Set: unix.MOUNT_ATTR_NOATIME, Clear: unix.MOUNT_ATTR__ATIME},
	"strictatime":   {Set: unix.MOUNT_ATTR_STRICTATIME, Clear: unix.MOUNT_ATTR__ATIME},
	"relatime":      {Clear: unix.MOUNT_ATTR__ATIME},
	"atime":         {Clear: unix.MOUNT_ATTR__ATIME},
	"norelatime":    {Clear: unix.MOUNT_ATTR__ATIME},
	"nostrictatime": {Clear: unix.MOUNT_ATTR__ATIME},
}

var propagationOptions = map[string]uint64{
	"private": unix.MS_PRIVATE, "rprivate": unix.MS_PRIVATE | unix.MS_REC,
	"slave": unix.MS_SLAVE, "rslave": unix.MS_SLAVE | unix.MS_REC,
	"shared": unix.MS_SHARED, "rshared": unix.MS_SHARED | unix.MS_REC,
	"unbindable": unix.MS_UNBINDABLE, "runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
}

var superOptions = map[string]bool{"sync": true, "dirsync": true, "lazytime": true, "mand": true}

// without effect: defaults, or notes to mount(8) and other runtimes
var idleOptions = map[string]bool{
	"": true, "defaults": true, "async": true, "loud": true, "silent": true, "nomand": true, "nolazytime": true,
	"iversion": true, "noiversion": true, "copy": true, "nocopy": true, "auto": true, "noauto": true,
	"user": true, "nouser": true, "_netdev": true,
}

// KnownOptions are the options that are not handed to the filesystem, as mount(8) and the
// runtime specification name them, sorted.
func KnownOptions() []string {
	list := []string{"bind", "rbind", "remount", "idmap", "ridmap", "tmpcopyup"}
	for o := range attrOptions {
		list = append(list, o, "r"+o)
	}
	list = slices.AppendSeq(list, maps.Keys(propagationOptions))
	list = slices.AppendSeq(list, maps.Keys(superOptions))
	list = append(list, "defaults", "async", "loud", "silent", "nomand", "nolazytime", "iversion", "noiversion")
	slices.Sort(list)
	return slices.Compact(list)
}

// ParseOptions reads mount options in order; of contradicting ones the last
// counts. Unknown ones are the filesystem's.
func ParseOptions(options []string) Flags {
	var f Flags
	for _, o := range options {
		f.parse(o)
	}
	return f
}

func (f *Flags) parse(o string) {
	if a, ok := attrOptions[o]; ok {
		merge(&f.Attr, a)
		return
	}
	if p, ok := propagationOptions[o]; ok {
		f.Propagation = append(f.Propagation, p)
		return
	}
	if a, ok := attrOptions[strings.TrimPrefix(o, "r")]; ok && strings.HasPrefix(o, "r") {
		merge(&f.Recursive, a)
		return
	}
	switch {
	case o == "bind":
		f.Bind = true
	case o == "rbind":
		f.Bind, f.Rec = true, true
	case o == "idmap":
		f.IDMap = true
	case o == "ridmap":
		f.IDMap, f.RecIDMap = true, true
	case o == "remount":
		f.Remount = true
	case o == "tmpcopyup":
		f.CopyUp = true
	case superOptions[o]:
		f.Super = append(f.Super, o)
	case !idleOptions[o]:
		f.Data = append(f.Data, o)
	}
}

// merge lets b have the last word on the bits that it names.
func merge(a *program.Attr, b program.Attr) {
	a.Set = a.Set&^(b.Set|b.Clear) | b.Set
	a.Clear = a.Clear&^b.Set | b.Clear
	if b.Clear&unix.MOUNT_ATTR__ATIME != 0 { // the access time bits are one field
		a.Clear |= unix.MOUNT_ATTR__ATIME
	}
}
