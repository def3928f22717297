package attack_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// peak is the most memory that was charged to a container so far, in bytes.
func (b *box) peak() int {
	b.t.Helper()
	for _, file := range []string{"/sys/fs/cgroup/memory" + b.spec.Linux.CgroupsPath + "/memory.max_usage_in_bytes",
		"/sys/fs/cgroup" + b.spec.Linux.CgroupsPath + "/memory.peak"} {
		if raw, err := os.ReadFile(file); err == nil {
			n, err := strconv.Atoi(strings.TrimSpace(string(raw)))
			if err != nil {
				b.t.Fatal(err)
			}
			return n
		}
	}
	b.t.Skip("needs a memory controller that keeps the peak: cgroup v1, or v2 of Linux 5.19")
	return 0
}

// limited gives the container a memory limit and Docker's default seccomp profile.
func (b *box) limited(bytes int64) {
	b.t.Helper()
	b.spec.Linux.Resources = &specs.LinuxResources{Memory: &specs.LinuxMemory{Limit: &bytes, Swap: &bytes}}
	profile, err := seccomp.GetDefaultProfile(b.spec)
	if err != nil {
		b.t.Fatal(err)
	}
	b.spec.Linux.Seccomp = profile
}

// TestSmallMemory: a container of 6 MiB starts every time, and so does what is executed in
// it. The runtime must be charged to its caller: a child that did its work in the
// container's cgroup would let a small limit kill it now and then.
func TestSmallMemory(t *testing.T) {
	g := newGround(t)
	b := g.box("small", "true")
	b.limited(6 << 20)
	b.save()
	rounds := scale(1000, 30)
	for i := range rounds {
		if out, err := b.call("run", "--bundle", b.bundle, b.id); err != nil {
			t.Fatalf("run %d of %d: %s%v", i+1, rounds, out, err)
		}
	}
	long := g.box("long", "sleep", "1000")
	long.limited(6 << 20)
	long.start()
	for i := range rounds {
		if out, err := long.exec(long.id, "true"); err != nil {
			t.Fatalf("exec %d of %d: %s%v", i+1, rounds, out, err)
		}
	}
}

// TestCharged: what a container has been charged when its init waits for the start, and
// what an exec of nothing adds to it, is a fraction of the least limit that there is.
func TestCharged(t *testing.T) {
	g := newGround(t)
	b := g.box("created", "true")
	b.limited(6 << 20)
	b.save()
	if err := b.command("create", "--bundle", b.bundle, "--pid-file", filepath.Join(b.bundle, "pid"), b.id).Run(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.remove)
	created := b.peak()
	if created > 1<<20 {
		t.Errorf("created: %d bytes", created)
	}
	t.Logf("created: %d KiB", created>>10)
}
