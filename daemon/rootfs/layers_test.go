package rootfs

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"gantry/internal/testutil/need"
	"gantry/libctr/core/mount"
)

var userFiles = []string{"passwd", "group"}

// stack is an overlay that grows by layers, each written through a mount or by hand.
type stack struct {
	t       testing.TB
	dir     string
	options []string
	lower   []string // topmost first
	upper   string
}

func newStack(t testing.TB, options ...string) *stack {
	t.Helper()
	need.Root(t, "mounts a file system")
	s := &stack{t: t, dir: t.TempDir(), options: append([]string{"index=off"}, options...)}
	s.push()
	return s
}

func (s *stack) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// push lets the upper directory become the topmost lower one.
func (s *stack) push() {
	s.t.Helper()
	if s.upper != "" {
		s.lower = append([]string{s.upper}, s.lower...)
	}
	s.upper = filepath.Join(s.dir, fmt.Sprintf("layer%d", len(s.lower)))
	s.must(os.Mkdir(s.upper, 0o755))
}

func (s *stack) mounts() []mount.Mount {
	s.t.Helper()
	if len(s.lower) == 0 {
		return []mount.Mount{{Type: "bind", Source: s.upper}}
	}
	work := s.upper + "-work"
	if err := os.Mkdir(work, 0o755); !errors.Is(err, os.ErrExist) {
		s.must(err)
	}
	options := append([]string{"lowerdir=" + strings.Join(s.lower, ":"), "upperdir=" + s.upper, "workdir=" + work}, s.options...)
	return []mount.Mount{{Type: "overlay", Source: "overlay", Options: options}}
}

// through runs f on the root as a container has it, and leaves the layer behind.
func (s *stack) through(f func(root string)) {
	s.t.Helper()
	mounts := s.mounts()
	if m := &mounts[0]; m.Type == "overlay" { // spares the sync when it goes
		m.Options = append(m.Options, "volatile")
	}
	r, err := OpenWritable(mounts)
	s.must(err)
	f(fmt.Sprintf("/proc/self/fd/%d", r.FD()))
	s.must(r.Close())
}

func (s *stack) write(name, body string) {
	s.t.Helper()
	path := filepath.Join(s.upper, name)
	s.must(os.MkdirAll(filepath.Dir(path), 0o755))
	s.must(os.WriteFile(path, []byte(body), 0o644))
}

// direct reads the files from the layers; unsure says that only the mount can tell.
func (s *stack) direct() (files [][]byte, unsure bool) {
	files, err := readUnmounted(s.mounts(), "etc", userFiles, maxUserFile)
	return files, err != nil
}

// merged reads them through a mount. broken says that the directory itself is an error
// there.
func (s *stack) merged() (files [][]byte, broken bool) {
	s.t.Helper()
	r, err := Open(s.mounts())
	s.must(err)
	defer r.Close()
	if f, err := r.OpenInRoot("etc", unix.O_PATH); err == nil {
		f.Close()
	} else if !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.ELOOP) {
		return nil, true
	}
	return [][]byte{r.userFile("/etc/passwd"), r.userFile("/etc/group")}, false
}

// compare fails when what was read directly is not what a mount gives.
func (s *stack) compare(history func() string) (sure bool) {
	s.t.Helper()
	got, unsure := s.direct()
	if unsure {
		return false
	}
	merged, broken := s.merged()
	if broken {
		return false
	}
	for i, want := range merged {
		if string(got[i]) != string(want) || (got[i] == nil) != (want == nil) {
			s.t.Fatalf("%s: read %q, merged view has %q after%s", userFiles[i], got[i], want, history())
		}
	}
	return true
}

// deed is something that a container, or a build step, does to its root.
type deed struct {
	name string
	do   func(root, body string) error
}

func on(name string, f func(string) error) func(root, body string) error {
	return func(root, _ string) error { return f(filepath.Join(root, name)) }
}

func moving(from, to string) func(root, body string) error {
	return func(root, _ string) error { return os.Rename(filepath.Join(root, from), filepath.Join(root, to)) }
}

func writing(name string) func(root, body string) error {
	return func(root, body string) error {
		f, err := os.OpenFile(filepath.Join(root, name), os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NONBLOCK, 0o644)
		if err != nil {
			return err // a FIFO, say
		}
		_, err = f.WriteString(body)
		return errors.Join(err, f.Close())
	}
}

func linking(to, name string) func(root, body string) error {
	return on(name, func(p string) error { return os.Symlink(to, p) })
}

func mkdir(p string) error { return os.Mkdir(p, 0o755) }

func deeds() []deed {
	all := []deed{
		{"mkdir etc", on("etc", mkdir)},
		{"mkdir etc", on("etc", mkdir)}, // twice as often
		{"rm -r etc", on("etc", os.RemoveAll)},
		{"rm -r etc2", on("etc2", os.RemoveAll)},
		{"mv etc etc2", moving("etc", "etc2")},
		{"mv etc2 etc", moving("etc2", "etc")},
		{"ln -s etc2 etc", linking("etc2", "etc")},
		{"write etc", writing("etc")},
		{"chmod etc", on("etc", func(p string) error { return os.Chmod(p, 0o700) })},
		{"empty etc", func(root, _ string) error {
			return errors.Join(os.RemoveAll(filepath.Join(root, "etc")), os.Mkdir(filepath.Join(root, "etc"), 0o755))
		}},
	}
	for _, name := range userFiles {
		p := "etc/" + name
		all = append(all,
			deed{"write " + p, writing(p)},
			deed{"write " + p, writing(p)},
			deed{"write " + p + "-", writing(p + "-")},
			deed{"truncate " + p, on(p, func(p string) error { return os.Truncate(p, 0) })},
			deed{"mv " + p + "- " + p, moving(p+"-", p)},
			deed{"mv " + p + " " + p + "-", moving(p, p+"-")},
			deed{"rm -r " + p, on(p, os.RemoveAll)},
			deed{"ln -s ../etc2 " + p, linking("../etc2/"+name, p)},
			deed{"ln " + p, func(root, _ string) error {
				return os.Link(filepath.Join(root, p), filepath.Join(root, "linked"+name))
			}},
			deed{"chmod " + p, on(p, func(p string) error { return os.Chmod(p, 0o600) })},
			deed{"mkdir " + p, on(p, mkdir)},
			deed{"mkfifo " + p, on(p, func(p string) error { return unix.Mkfifo(p, 0o600) })},
			deed{"mknod " + p, on(p, func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5))) })},
		)
	}
	return all
}

// TestUnmountedAsMerged does at random what containers do, layer upon layer, and
// compares after each.
func TestUnmountedAsMerged(t *testing.T) {
	all := deeds()
	for name, options := range map[string][]string{
		"plain": nil, "userxattr": {"userxattr"}, "redirects": {"redirect_dir=on"}, "metacopy": {"redirect_dir=on", "metacopy=on"},
	} {
		t.Run(name, func(t *testing.T) {
			sure, total := 0, 0
			for seed := range uint64(16) {
				s := newStack(t, options...)
				random := rand.New(rand.NewPCG(seed, 1))
				history := fmt.Sprintf(" seed %d", seed)
				for layer := range 5 {
					history += ";"
					s.through(func(root string) {
						for i := range random.IntN(6) {
							d := all[random.IntN(len(all))]
							if d.do(root, fmt.Sprintf("%d.%d", layer, i)) == nil {
								history += " " + d.name + ","
							}
						}
					})
					if layer > 0 {
						total++
						if s.compare(func() string { return history }) {
							sure++
						}
					}
					s.push()
				}
			}
			t.Logf("%d of %d without a mount", sure, total)
			if sure < total/4 {
				t.Errorf("only %d of %d without a mount", sure, total)
			}
		})
	}
}

// TestUnmountedAsMergedByHand composes layers that no container could, of everything
// that overlayfs gives a meaning.
func TestUnmountedAsMergedByHand(t *testing.T) {
	for _, prefix := range []string{"trusted.overlay.", "user.overlay."} {
		t.Run(prefix, func(t *testing.T) {
			var options []string
			if prefix == "user.overlay." {
				options = []string{"userxattr"}
			}
			sure, total := 0, 120
			for seed := range uint64(total) {
				s := newStack(t, options...)
				random := rand.New(rand.NewPCG(seed, 2))
				history := fmt.Sprintf(" seed %d", seed)
				for layer := range 2 + random.IntN(4) {
					s.push()
					history += fmt.Sprintf("; %d", layer) + s.byHand(random, prefix, layer)
				}
				if s.compare(func() string { return history }) {
					sure++
				}
			}
			t.Logf("%d of %d without a mount", sure, total)
			if sure < total/10 {
				t.Errorf("only %d of %d without a mount", sure, total)
			}
		})
	}
}

// byHand fills the upper directory.
func (s *stack) byHand(random *rand.Rand, prefix string, layer int) (did string) {
	s.t.Helper()
	one := func(of ...string) string {
		c := of[random.IntN(len(of))]
		did += " " + c
		return c
	}
	etc := filepath.Join(s.upper, "etc")
	switch one("dir", "dir", "dir", "dir", "dir", "dir", "none", "none", "whiteout", "file", "link") {
	case "none":
		return did
	case "whiteout":
		s.must(unix.Mknod(etc, unix.S_IFCHR, 0))
		return did
	case "file":
		s.write("etc", "x")
		return did
	case "link":
		s.must(os.Symlink("etc2", etc))
		return did
	}
	s.must(mkdir(etc))
	other := map[string]string{"trusted.overlay.": "user.overlay.", "user.overlay.": "trusted.overlay."}[prefix]
	set := func(path, name, value string) { s.must(unix.Setxattr(path, name, []byte(value), 0)) }
	switch kind := one("", "", "", "", "", "y", "y", "x", "yy", "n", "other", "redirect"); kind {
	case "y", "x", "yy", "n":
		set(etc, prefix+"opaque", kind)
	case "other":
		set(etc, other+"opaque", "y")
		set(etc, other+"redirect", "etc2")
	case "redirect":
		set(etc, prefix+"redirect", "etc2")
	}
	for _, name := range userFiles {
		path := filepath.Join(etc, name)
		switch kind := one("none", "none", "none", "file", "file", "empty", "whiteout", "whiteout", "xwhiteout", "fifo", "dir", "link", "other"); kind {
		case "file":
			s.write("etc/"+name, fmt.Sprint("layer ", layer))
		case "empty":
			s.write("etc/"+name, "")
		case "whiteout":
			s.must(unix.Mknod(path, unix.S_IFCHR, 0))
		case "xwhiteout":
			s.write("etc/"+name, "")
			set(path, prefix+"whiteout", "")
		case "other":
			s.write("etc/"+name, "other")
			set(path, other+"whiteout", "")
			set(path, other+"metacopy", "")
		case "fifo":
			s.must(unix.Mkfifo(path, 0o600))
		case "dir":
			s.must(mkdir(path))
		case "link":
			s.must(os.Symlink("../etc2/"+name, path))
		}
	}
	return did
}

// TestUnmounted: what is common needs no mount, and what is strange has one.
func TestUnmounted(t *testing.T) {
	for _, c := range []struct {
		why     string
		options []string
		upper   func(s *stack)
		want    []string // nil: only the mount can tell
	}{
		{why: "of the image", want: []string{"image", "image"}, upper: func(*stack) {}},
		{why: "of the container", want: []string{"own", "image"}, upper: func(s *stack) { s.write("etc/passwd", "own") }},
		{why: "removed", want: []string{"", "image"}, upper: func(s *stack) {
			s.through(func(root string) { s.must(os.Remove(root + "/etc/passwd")) })
		}},
		{why: "directory replaced", want: []string{"own", ""}, upper: func(s *stack) {
			s.through(func(root string) {
				s.must(errors.Join(os.RemoveAll(root+"/etc"), mkdir(root+"/etc"), os.WriteFile(root+"/etc/passwd", []byte("own"), 0o600)))
			})
		}},
		{why: "volatile", options: []string{"volatile"}, want: []string{"image", "image"}, upper: func(*stack) {}},
		{why: "copied up without its data", options: []string{"redirect_dir=on", "metacopy=on"}, upper: func(s *stack) {
			s.through(func(root string) { s.must(os.Chmod(root+"/etc/passwd", 0o600)) })
		}},
		{why: "directory of other whiteouts", upper: func(s *stack) {
			s.must(errors.Join(mkdir(s.upper+"/etc"), unix.Setxattr(s.upper+"/etc", "trusted.overlay.opaque", []byte("x"), 0)))
		}},
		{why: "directory removed", upper: func(s *stack) {
			s.through(func(root string) { s.must(os.RemoveAll(root + "/etc")) })
		}},
		{why: "directory linked", upper: func(s *stack) { s.must(os.Symlink("/etc", s.upper+"/etc")) }},
		{why: "directory bound", upper: func(s *stack) { s.bind("/etc", "etc") }},
		{why: "file bound", upper: func(s *stack) {
			s.write("etc/passwd", "")
			s.bind("/etc/hostname", "etc/passwd")
		}},
		{why: "linked out", upper: func(s *stack) {
			s.must(errors.Join(mkdir(s.upper+"/etc"), os.Symlink("/etc/passwd", s.upper+"/etc/passwd")))
		}},
		{why: "FIFO", upper: func(s *stack) {
			s.must(errors.Join(mkdir(s.upper+"/etc"), unix.Mkfifo(s.upper+"/etc/passwd", 0o600)))
		}},
		{why: "endless device", upper: func(s *stack) {
			s.must(errors.Join(mkdir(s.upper+"/etc"), unix.Mknod(s.upper+"/etc/passwd", unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5)))))
		}},
		{why: "layers of data", options: []string{"datadir+=/tmp"}, upper: func(*stack) {}},
		{why: "an option not known", options: []string{"later=on"}, upper: func(*stack) {}},
	} {
		t.Run(c.why, func(t *testing.T) {
			s := newStack(t, c.options...)
			s.write("etc/passwd", "image")
			s.write("etc/group", "image")
			s.push()
			c.upper(s)
			got, unsure := s.direct()
			if unsure != (c.want == nil) {
				t.Fatalf("needs a mount: %v", unsure)
			}
			for i, want := range c.want {
				if string(got[i]) != want || (got[i] == nil) != (want == "") {
					t.Errorf("%s: %q", userFiles[i], got[i])
				}
			}
		})
	}
}

func (s *stack) bind(source, name string) {
	s.t.Helper()
	at := filepath.Join(s.upper, name)
	if _, err := os.Stat(at); err != nil {
		s.must(mkdir(at))
	}
	s.must(unix.Mount(source, at, "", unix.MS_BIND, ""))
	s.t.Cleanup(func() { unix.Unmount(at, unix.MNT_DETACH) })
}

func TestUnmountedBounded(t *testing.T) {
	s := newStack(t)
	s.push()
	s.write("etc/passwd", "")
	s.must(os.Truncate(s.upper+"/etc/passwd", 1<<40))
	got, err := readUnmounted(s.mounts(), "etc", userFiles, 1000)
	if err != nil || len(got[0]) != 1000 || got[1] != nil {
		t.Errorf("%d bytes, %v", len(got[0]), err)
	}
}

// TestUnmountedAlters: a file that is replaced again and again by a device, a link, a
// FIFO or nothing is read as it is at some time, or not at all.
func TestUnmountedAlters(t *testing.T) {
	s := newStack(t)
	s.write("etc/passwd", "image")
	s.push()
	s.write("etc/passwd", "own")
	done := make(chan struct{})
	go func() {
		defer close(done)
		passwd, next := s.upper+"/etc/passwd", s.upper+"/next"
		for i := range 3000 {
			switch i % 5 {
			case 0:
				os.WriteFile(next, []byte("own"), 0o600)
			case 1:
				unix.Mknod(next, unix.S_IFCHR|0o600, int(unix.Mkdev(1, 5)))
			case 2:
				os.Symlink("/etc/passwd", next)
			case 3:
				unix.Mkfifo(next, 0o600)
			case 4:
				unix.Mknod(next, unix.S_IFCHR, 0)
			}
			os.Rename(next, passwd)
		}
	}()
	for {
		if got, unsure := s.direct(); !unsure && got[0] != nil && string(got[0]) != "own" {
			t.Errorf("read %q", got[0])
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

func TestLookupUserUnmounted(t *testing.T) {
	s := newStack(t)
	s.write("etc/passwd", "web:x:33:34::/var/www:/bin/false\n")
	s.push()
	s.write("etc/group", "extra:x:77:web\n")
	for _, c := range []struct {
		why    string
		mounts []mount.Mount
	}{
		{"layers", s.mounts()},
		{"mounted", append([]mount.Mount(nil), mount.Mount{Type: "overlay", Options: append(s.mounts()[0].Options, "nfs_export=off")})},
	} {
		u, home, err := LookupUser(c.mounts, "web", []string{"99"})
		if err != nil || u.UID != 33 || u.GID != 34 || fmt.Sprint(u.AdditionalGids) != "[34 77 99]" || home != "/var/www" {
			t.Errorf("%s: %+v %q %v", c.why, u, home, err)
		}
	}
	if _, _, err := LookupUser(nil, "web", nil); err == nil {
		t.Error("nothing has users")
	}
}

func BenchmarkLookupUser(b *testing.B) {
	s := newStack(b)
	s.write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/var/www:/bin/false\n")
	s.write("etc/group", "root:x:0:\nweb:x:33:\n")
	for range 6 {
		s.push()
	}
	mounts := s.mounts()
	running, err := OpenWritable(mounts)
	s.must(err)
	defer running.Close()
	b.Run("mounted", func(b *testing.B) {
		for b.Loop() {
			r, err := Open(mounts)
			s.must(err)
			_, _, err = r.LookupUser("web", nil)
			s.must(errors.Join(err, r.Close()))
		}
	})
	b.Run("layers", func(b *testing.B) {
		for b.Loop() {
			_, _, err := LookupUser(mounts, "web", nil)
			s.must(err)
		}
	})
}
