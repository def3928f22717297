package validate

import (
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/rootfs"
)

// Spec checks a whole container. Nil is a problem, not a panic.
func Spec(s *specs.Spec) error {
	if s == nil {
		return fmt.Errorf("no specification: %w", errdefs.ErrInvalidArgument)
	}
	var c checker
	c.version(s.Version)
	if s.Process == nil {
		c.add("process", "missing")
	} else {
		c.process("process", s.Process)
	}
	c.root(s.Root)
	c.mounts(s)
	c.hooks(s.Hooks)
	c.annotations(s.Annotations)
	c.linux(s)
	return c.err()
}

// Process checks a process on its own, as exec takes it.
func Process(p *specs.Process) error {
	if p == nil {
		return fmt.Errorf("no process: %w", errdefs.ErrInvalidArgument)
	}
	var c checker
	c.process("process", p)
	return c.err()
}

// Resources checks resource limits on their own, as update takes them.
func Resources(r *specs.LinuxResources) error {
	var c checker
	c.resources("resources", r)
	return c.err()
}

// maxProblems bounds the text of an error.
const maxProblems = 8

// checker gathers problems.
type checker struct {
	list []string
	more int
}

func (c *checker) add(field, format string, args ...any) {
	if len(c.list) == maxProblems {
		c.more++
		return
	}
	c.list = append(c.list, field+": "+fmt.Sprintf(format, args...))
}

func (c *checker) err() error {
	if len(c.list) == 0 {
		return nil
	}
	text := strings.Join(c.list, "; ")
	if c.more > 0 {
		text += fmt.Sprintf("; and %d more", c.more)
	}
	return problem(text)
}

// problem is an invalid argument whose text is all that it says.
type problem string

func (p problem) Error() string { return string(p) }
func (problem) Unwrap() error   { return errdefs.ErrInvalidArgument }

// version takes 1.0 to 1.3 and later minor ones of 1, which add but never
// change: what they add and we don't know is left to the JSON reader. Versions
// before 1.0.0 are refused.
func (c *checker) version(v string) {
	const field = "ociVersion"
	if v == "" {
		c.add(field, "missing")
		return
	}
	core, _, _ := strings.Cut(v, "-")
	core, _, _ = strings.Cut(core, "+")
	parts := strings.Split(core, ".")
	if len(parts) != 3 {
		c.add(field, "%q is not a version", clip(v))
		return
	}
	for _, p := range parts {
		if n, err := strconv.Atoi(p); err != nil || n < 0 {
			c.add(field, "%q is not a version", clip(v))
			return
		}
	}
	minor, _ := strconv.Atoi(parts[1])
	if parts[0] != strconv.Itoa(specs.VersionMajor) || minor > specs.VersionMinor {
		c.add(field, "%q is not supported, only 1.0 to %d.%d", clip(v), specs.VersionMajor, specs.VersionMinor)
	}
}

func (c *checker) root(r *specs.Root) {
	switch {
	case r == nil:
		c.add("root", "missing")
	case r.Path == "":
		c.add("root.path", "empty")
	default:
		c.text("root.path", r.Path)
	}
}

func (c *checker) mounts(s *specs.Spec) {
	for i, m := range s.Mounts {
		f := at("mounts", i)
		// a relative destination is deprecated, not wrong: it is meant from "/"
		if m.Destination == "" {
			c.add(f+".destination", "empty")
		}
		c.text(f+".destination", m.Destination)
		c.proc(f+".destination", m)
		c.text(f+".source", m.Source)
		c.text(f+".type", m.Type)
		for k, o := range m.Options {
			c.text(at(f+".options", k), o)
		}
		c.mapping(f+".uidMappings", m.UIDMappings)
		c.mapping(f+".gidMappings", m.GIDMappings)
		if (len(m.UIDMappings) == 0) != (len(m.GIDMappings) == 0) {
			c.add(f, "uidMappings and gidMappings go together")
		}
		c.mountOptions(f, m, s.Linux)
	}
}

// mountOptions refuses what could only be dropped in silence.
func (c *checker) mountOptions(field string, m specs.Mount, l *specs.Linux) {
	f := rootfs.ParseOptions(m.Options)
	bind, mapped := f.Bind || m.Type == "bind", f.IDMap || len(m.UIDMappings) > 0
	switch {
	case m.Destination != "" && path.Join("/", m.Destination) == "/" && !f.Remount:
		c.add(field+".destination", "the root filesystem is not for mounts")
	case bind && len(f.Data) > 0:
		c.add(field+".options", "bind mounts cannot have any filesystem-specific options applied: %q", clip(f.Data[0]))
	case f.CopyUp && m.Type != "tmpfs":
		c.add(field+".options", "tmpcopyup is for tmpfs")
	case f.IDMap && (!bind || f.Remount), mapped && !bind && len(m.GIDMappings) > 0:
		c.add(field, "id-mapped mounts are only supported for bind-mounts")
	case mapped && len(m.UIDMappings) == 0 && !hasUserNS(l):
		c.add(field, "idmap without mappings needs a user namespace")
	}
}

func hasUserNS(l *specs.Linux) bool {
	return l != nil && slices.ContainsFunc(l.Namespaces, func(n specs.LinuxNamespace) bool { return n.Type == specs.UserNamespace })
}

// proc keeps others' files from the place of procfs: what the runtime and the libraries
// of a container write and read there would go where the mount's maker wants. The files
// that show a container its own limits may be covered, and procfs by itself.
func (c *checker) proc(field string, m specs.Mount) {
	dest := path.Join("/", m.Destination)
	below, inside := strings.CutPrefix(dest, "/proc/")
	switch src := path.Clean(m.Source); {
	case dest != "/proc" && !inside, m.Type == "proc", src == "/proc", strings.HasPrefix(src, "/proc/"):
	case dest == "/proc":
		c.add(field, "%q cannot be mounted because it is not of type proc", clip(m.Source))
	case !slices.Contains(coverable, below):
		c.add(field, "%q cannot be mounted because it is inside /proc", clip(dest))
	}
}

// coverable are the files of procfs, by their paths in it, that runc lets be mounted on.
var coverable = []string{
	"cpuinfo", "diskstats", "loadavg", "meminfo", "net/dev", "slabinfo", "stat", "swaps",
	"sys/crypto/fips_enabled", "sys/kernel/ns_last_pid", "uptime",
}

func (c *checker) annotations(a map[string]string) {
	if _, empty := a[""]; empty {
		c.add("annotations", "empty key")
	}
}

// absolute takes a path that is absolute and a C string.
func (c *checker) absolute(field, p string) {
	if !path.IsAbs(p) {
		c.add(field, "%q is not absolute", clip(p))
		return
	}
	c.text(field, p)
}

// text takes what can be a C string.
func (c *checker) text(field, s string) {
	if strings.IndexByte(s, 0) >= 0 {
		c.add(field, "holds a NUL byte")
	}
}

func at(field string, i int) string { return field + "[" + strconv.Itoa(i) + "]" }

// clip bounds what an error repeats of its input.
func clip(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}

// known takes a value that is one of a set.
func known[T ~string](c *checker, field, what string, v T, set ...T) {
	for _, k := range set {
		if v == k {
			return
		}
	}
	c.add(field, "unknown %s %q", what, clip(string(v)))
}
