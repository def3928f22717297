package attack_test

import (
	"os"
	"os/exec"
	"testing"
	"time"
)

// secret makes a file that is the host's alone and gives its name without the leading
// slash, as it is seen from any directory that is the host's root.
func secret(t *testing.T) string {
	t.Helper()
	f, err := os.CreateTemp("/var/tmp", "attack-secret-")
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	t.Cleanup(func() { os.Remove(f.Name()) })
	return f.Name()[1:]
}

// TestEnteringProcess is CVE-2016-9962: a process that enters a container could be traced
// from inside, and its descriptors of the host used, before it had executed anything. A
// container that may trace (CAP_SYS_PTRACE) watches every process that appears in it.
func TestEnteringProcess(t *testing.T) {
	g := newGround(t)
	b := g.box("watcher", "intruder", "files", secret(t))
	b.spec.Process.Capabilities = capabilities(append([]string{"CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"}, dockerCaps...))
	out := b.start()
	if err := out.await("ready", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	for range scale(1000, 30) {
		if out, err := b.exec(b.id, "/bin/true"); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	if seen := out.with("saw"); len(seen) < scale(500, 5) {
		t.Errorf("only %d processes were seen", len(seen))
	}
	if reached := out.with("reached"); len(reached) > 0 {
		t.Errorf("%q", reached)
	}
}

// TestEnteringProcessWorks: the watcher reaches the host through a process that joins
// namespaces as it should not.
func TestEnteringProcessWorks(t *testing.T) {
	g := newGround(t)
	b := g.box("watcher", "intruder", "files", secret(t))
	b.spec.Process.Capabilities = capabilities(append([]string{"CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"}, dockerCaps...))
	out := b.start()
	if err := out.await("ready", 10*time.Second); err != nil {
		t.Fatal(err)
	}
	enter := exec.Command("nsenter", "--pid=/proc/"+itoa(b.pid())+"/ns/pid", "sleep", "2")
	if err := enter.Start(); err != nil {
		t.Fatal(err)
	}
	defer enter.Wait() // as it has made the process, it reaps it
	if err := out.await("reached root", 10*time.Second); err != nil {
		t.Error(err)
	}
}
