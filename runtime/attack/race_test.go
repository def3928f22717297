package attack_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// swap is a directory and a symbolic link beside it that change places.
type swap struct{ dir, link string }

// swapper exchanges all pairs in turns, as fast as it can. Who holds its lock finds them
// at rest.
type swapper struct {
	sync.Mutex
	pairs     []swap
	exchanges int // guarded by the lock
	over      atomic.Bool
	done      chan struct{}
}

// swapping starts a swapper; stop ends it.
func swapping(t *testing.T, pairs []swap) *swapper {
	t.Helper()
	s := &swapper{pairs: pairs, done: make(chan struct{})}
	for _, p := range pairs {
		if err := exchange(p); err != nil {
			t.Fatal(err)
		}
		exchange(p)
	}
	go func() { // ends by stop
		defer close(s.done)
		for !s.over.Load() {
			s.Lock()
			for _, p := range pairs {
				exchange(p)
			}
			s.exchanges += len(pairs)
			s.Unlock()
		}
	}()
	return s
}

func (s *swapper) stop() { s.over.Store(true); <-s.done }

func exchange(p swap) error {
	return unix.Renameat2(unix.AT_FDCWD, p.dir, unix.AT_FDCWD, p.link, unix.RENAME_EXCHANGE)
}

// arena is where races are run: a volume and a root filesystem in which directories and
// links to the host's canary change places, while containers with mounts there are made.
type arena struct {
	*ground
	canary, volume string
	box            *box
	pairs          []swap
}

const canaryText = "CANARY-CONTENT"

func newArena(t *testing.T) *arena {
	g := newGround(t)
	a := &arena{ground: g, canary: g.dir + "/canary", volume: g.dir + "/volume"}
	for _, d := range []string{"mnt", "bound", "copy", "mask", "ro", "cwd/new"} {
		a.make(a.canary + "/" + d)
		if err := os.WriteFile(a.canary+"/"+d+"/file", []byte(canaryText), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	a.make(g.dir + "/source")
	os.WriteFile(g.dir+"/source/file", []byte("source"), 0o644)
	a.box = g.box("racer", "sh", "-c", "cat /vol/*/*/file /vol/*/file /place/*/file place/*/file * 2>/dev/null; "+seek("canary/copy/file"))
	up := strings.Repeat("../", 20)
	a.trap(a.volume+"/place", a.canary)                  // absolute
	a.trap(a.volume+"/place2", up+a.canary[1:])          // upwards
	a.trap(a.volume+"/place2/copy", up+a.canary[1:])     // the last component
	a.trap(a.box.rootfs()+"/place", a.canary)            // in the image itself
	a.trap(a.box.rootfs()+"/place/cwd", up+a.canary[1:]) // the working directory
	a.fill(a.box.spec)
	return a
}

func (a *arena) make(dir string) {
	a.t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		a.t.Fatal(err)
	}
}

// trap makes a directory and a link to swap with it.
func (a *arena) trap(dir, target string) {
	a.t.Helper()
	a.make(dir)
	link := filepath.Join(filepath.Dir(dir), "."+filepath.Base(dir))
	if err := os.Symlink(target, link); err != nil {
		a.t.Fatal(err)
	}
	a.pairs = append(a.pairs, swap{dir, link})
}

// fill adds all kinds of what the runtime makes at a path to the places that are swapped.
func (a *arena) fill(s *specs.Spec) {
	source := a.dir + "/source"
	s.Mounts = append(s.Mounts, mount("/vol", "bind", a.volume, "rbind"))
	for _, place := range []string{"/vol/place", "/vol/place2", "/place"} {
		s.Mounts = append(s.Mounts,
			mount(place+"/mnt", "tmpfs", "tmpfs"),
			mount(place+"/bound", "bind", source, "rbind"),
			mount(place+"/one", "bind", source+"/file", "bind", "ro"),
			mount(place+"/copy", "tmpfs", "tmpfs", "tmpcopyup"))
		s.Linux.Devices = append(s.Linux.Devices, specs.LinuxDevice{Path: place + "/made/node", Type: "c", Major: 1, Minor: 3})
		s.Linux.MaskedPaths = append(s.Linux.MaskedPaths, place+"/mask")
		s.Linux.ReadonlyPaths = append(s.Linux.ReadonlyPaths, place+"/ro")
	}
	s.Process.Cwd = "/place/cwd/new"
}

// tidy takes away what a round made, so that the next has all to make again, and says
// whether it followed a link: to where it leads inside the root.
func (a *arena) tidy() (followed bool) {
	inside := a.box.rootfs() + a.canary
	if _, err := os.Lstat(inside); err == nil {
		followed = true
	}
	os.RemoveAll(a.box.rootfs() + "/" + strings.Split(a.canary, "/")[1])
	for _, place := range []string{a.volume + "/place", a.volume + "/.place", a.volume + "/place2", a.volume + "/.place2", a.box.rootfs() + "/place", a.box.rootfs() + "/.place"} {
		if st, err := os.Lstat(place); err != nil || !st.IsDir() {
			continue
		}
		for _, name := range []string{"mnt", "bound", "one", "made", "mask"} {
			os.RemoveAll(place + "/" + name)
		}
	}
	return followed
}

// TestRaces is CVE-2021-30465, CVE-2024-45310 and CVE-2025-52565 and -52881 as far as they
// are races: while the runtime mounted, made directories and files, masked or entered them,
// another container that shares a volume put links in their place, and the mount, the
// empty file or the process was outside the root.
func TestRaces(t *testing.T) {
	a := newArena(t)
	before := takeInventory(t, a.canary, a.dir+"/source")
	swaps := swapping(t, a.pairs)
	started, failed, followed := 0, 0, 0
	rounds := scale(10000, 30)
	for range rounds {
		out, err := a.box.run()
		if strings.Contains(out, canaryText) || strings.Contains(out, "reached") {
			t.Fatalf("the container sees the host: %s", out)
		}
		if err != nil {
			failed++
		} else {
			started++
		}
		swaps.Lock()
		if a.tidy() {
			followed++
		}
		swaps.Unlock()
	}
	swaps.stop()
	if diff := before.differences(takeInventory(t, a.canary, a.dir+"/source")); len(diff) > 0 {
		t.Errorf("outside the root: %s", strings.Join(diff, "\n"))
	}
	t.Logf("%d exchanges; %d containers started, %d did not; links were followed inside the root in %d rounds", swaps.exchanges, started, failed, followed)
	if followed < rounds/10 || swaps.exchanges < rounds {
		t.Errorf("the swaps won %d rounds of %d only", followed, rounds)
	}
}

// TestRacesWork: who looks at a path before using it loses against the same swaps.
func TestRacesWork(t *testing.T) {
	a := newArena(t)
	before := takeInventory(t, a.canary)
	swaps := swapping(t, a.pairs)
	lost := false
	for range 100000 {
		place := a.volume + "/place"
		if st, err := os.Lstat(place); err != nil || !st.IsDir() {
			continue
		}
		os.Mkdir(place+"/made", 0o755)
		if _, err := os.Lstat(a.canary + "/made"); err == nil {
			lost = true
			break
		}
	}
	swaps.stop()
	if diff := before.differences(takeInventory(t, a.canary)); !lost || len(diff) == 0 {
		t.Errorf("nothing was made outside; the inventory differs in %d", len(diff))
	}
}
