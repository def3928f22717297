package integrationcli

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/corealone"
	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/moving"
	"gantry/internal/testutil/pod"
	"gantry/internal/testutil/registrytest"
)

// TestCoreCrash kills the core at random moments while clients import images, which
// unpacks them, have the core pull, export and import one of many layers, run containers
// and sandboxes, commit snapshots and remove it all, with collections on the way. What was acknowledged stays; and when the next core has collected, every record
// has its thing and every thing its record.
func TestCoreCrash(t *testing.T) {
	c := corealone.Start(t)
	reg := registrytest.Start(t)
	pushLayers(reg, 8)
	w := &coreCrasher{t: t, c: c, base: c.Image(), dir: t.TempDir(), remote: reg.Host + "/layers:1"}
	rounds := scale(200, 4)
	for n := range rounds {
		w.round(200*time.Millisecond + time.Duration(rand.IntN(scale(3000, 1500)))*time.Millisecond)
		c.Launch()
		w.kept()
		c.Ctr("leases", "create", "--id", fmt.Sprint("collect", n))
		c.Ctr("leases", "delete", "--sync", fmt.Sprint("collect", n))
		checkCore(t, c, "--deep")
		if t.Failed() {
			return
		}
	}
	for _, id := range strings.Fields(c.Ctr("containers", "ls", "-q")) {
		c.Remove(id)
	}
	if err := w.pods().NoPod(); err != nil {
		t.Error(err)
	}
	for i, what := range []string{"image", "container", "snapshot", "moved image", "sandbox"} {
		t.Logf("%d rounds: %d times a %s came to its end", rounds, w.lived[i].Load(), what)
		if w.lived[i].Load() == 0 && rounds > 50 {
			t.Errorf("no %s ever lived", what)
		}
	}
}

// coreCrasher is the clients of a core that dies.
type coreCrasher struct {
	t      *testing.T
	c      *corealone.Core
	base   string // an image that stays
	dir    string
	remote string          // an image in a registry
	ctx    context.Context // of the round
	lived  [5]atomic.Int32
	next   atomic.Int32

	mu           sync.Mutex
	acknowledged map[string]bool // "images NAME", "containers ID", "snapshots KEY"; guarded by mu
}

// round lets the clients work for so long, and kills the core under them.
func (w *coreCrasher) round(d time.Duration) {
	w.acknowledged = map[string]bool{}
	ctx, cancel := context.WithCancel(w.t.Context())
	defer cancel()
	w.ctx = ctx
	var over atomic.Bool
	var clients sync.WaitGroup
	for _, once := range []func(n int32) bool{w.image, w.container, w.snapshot, w.container, w.move, w.sandbox} {
		clients.Go(func() {
			for !over.Load() && once(w.next.Add(1)) {
			}
		})
	}
	time.Sleep(d)
	w.c.Kill()
	over.Store(true)
	defer time.AfterFunc(500*time.Millisecond, cancel).Stop() // ctr may wait for a core to come
	clients.Wait()
}

// steps runs commands of ctr one after the other until one fails: the core has died.
func (w *coreCrasher) steps(all ...string) bool {
	for _, one := range all {
		if err := w.c.Cmd(w.ctx, strings.Fields(one)...).Run(); err != nil {
			return false
		}
	}
	return true
}

func (w *coreCrasher) acknowledge(what string, there bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if there {
		w.acknowledged[what] = true
	} else {
		delete(w.acknowledged, what)
	}
}

func (w *coreCrasher) image(n int32) bool {
	name := fmt.Sprintf("docker.io/library/crash:%d", n)
	path := filepath.Join(w.dir, fmt.Sprint(n))
	defer os.Remove(path)
	archive := busybox.Archive(w.t, busybox.Config{Labels: map[string]string{"n": fmt.Sprint(n)}}, name)
	if err := os.WriteFile(path, archive, 0o600); err != nil {
		w.t.Error(err)
		return false
	}
	if !w.steps("images import " + path) {
		return false
	}
	w.acknowledge("images "+name, true)
	time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
	w.acknowledge("images "+name, false)
	ok := w.steps("images rm --sync " + name)
	w.count(0, ok)
	return ok
}

func (w *coreCrasher) container(n int32) bool {
	id := fmt.Sprintf("crash%d", n)
	if !w.steps("run -d --runtime io.containerd.gantry.v2 " + w.base + " " + id + " sleep 1000") {
		return false
	}
	w.acknowledge("containers "+id, true)
	time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
	w.acknowledge("containers "+id, false)
	ok := w.steps("tasks rm -f "+id, "containers rm "+id)
	w.count(1, ok)
	return ok
}

func (w *coreCrasher) snapshot(n int32) bool {
	key, name := fmt.Sprintf("active%d", n), fmt.Sprintf("done%d", n)
	if !w.steps("leases create --id "+key, "snapshots prepare "+key, "snapshots label "+key+" containerd.io/gc.root=x") {
		return false
	}
	w.acknowledge("snapshots "+key, true)
	time.Sleep(time.Duration(rand.IntN(20)) * time.Millisecond)
	w.acknowledge("snapshots "+key, false)
	ok := w.steps("snapshots commit "+name+" "+key, "leases delete "+key)
	w.count(2, ok)
	return ok
}

func (w *coreCrasher) move(int32) bool {
	ok := moving.Through(w.ctx, w.c.Socket(), w.remote) == nil
	w.count(3, ok)
	return ok
}

func (w *coreCrasher) pods() pod.Core { return pod.Core{Socket: w.c.Socket(), Dir: w.c.Dir} }

func (w *coreCrasher) sandbox(int32) bool {
	ok := w.pods().Live() == nil
	w.count(4, ok)
	return ok
}

func (w *coreCrasher) count(i int, ok bool) {
	if ok {
		w.lived[i].Add(1)
	}
}

// kept looks whether all that was acknowledged is there.
func (w *coreCrasher) kept() {
	w.t.Helper()
	lists := map[string]string{
		"images": w.c.Ctr("images", "ls", "-q"), "containers": w.c.Ctr("containers", "ls", "-q"), "snapshots": w.c.Ctr("snapshots", "ls"),
	}
	for what := range w.acknowledged {
		kind, name, _ := strings.Cut(what, " ")
		if !strings.Contains(lists[kind], name) {
			w.t.Errorf("%s was acknowledged, and is not there:\n%s", what, lists[kind])
		}
	}
	// The image that stays is whole.
	if out := w.c.Ctr("images", "check", "-q"); !strings.Contains(out, w.base) {
		w.t.Errorf("images check: %s", out)
	}
}

// checkCore stops the core, has its directories checked, and starts it again.
func checkCore(t *testing.T, c *corealone.Core, args ...string) {
	t.Helper()
	c.Terminate()
	args = append([]string{"core", "--config", filepath.Join(c.Dir, "core.toml"), "check"}, args...)
	out, err := exec.Command(engine.Binary(t, "gantryd"), args...).CombinedOutput()
	if err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
	c.Launch()
}

// pushLayers fills a registry with an image of n layers, each of which changes and removes
// something of the one before.
func pushLayers(r *registrytest.Registry, n int) {
	img := registrytest.Image{Architecture: runtime.GOARCH}
	for i := range n {
		layer := tarOf(map[string][]byte{
			"same":                              []byte(fmt.Sprint(i)),
			fmt.Sprint("file", i):               bytes.Repeat([]byte{byte(i)}, 256<<10),
			fmt.Sprint(".wh.file", max(i-1, 0)): nil,
		})
		img.Layers, img.DiffIDs = append(img.Layers, layer), append(img.DiffIDs, digest.FromBytes(layer))
	}
	r.Push("layers", "1", img)
}
