package clients

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
)

// TestGoClientPod has a Go client drive a pod, under our core and under containerd, which
// runs our shim: runc's serves no sandboxes.
func TestGoClientPod(t *testing.T) {
	program := need.Client(t, "coreclient")
	shim := engine.Binary(t, "containerd-shim-gantry-v2")
	r := registry(t)
	said := map[string]string{}
	theirs, ours := theirs(t), ours(t)
	for _, c := range []core{theirs, ours} {
		got := c.run(t, "", program, "-address", c.socket, "-namespace", ns, "-ref", r.Host+"/bb:1", "-cgroup", "/"+ns+"/g", "-runtime", shim, "-pod")
		_, said[c.name], _ = strings.Cut(got.out, "\n") // the first line is the version
		if got.code != 0 || !strings.Contains(got.out, "sandbox removed") || strings.Count(got.out, "exec: from exec 7") != 2 || strings.Count(got.out, "sandbox metrics: ") != 2 {
			t.Errorf("%s: exit code %d\n%s", c.name, got.code, got.out)
		}
	}
	if said[theirs.name] != said[ours.name] {
		t.Errorf("containerd:\n%s\ngantry:\n%s", said[theirs.name], said[ours.name])
	}
}

// TestCtrSandboxes plays ctr's commands for sandboxes on both.
func TestCtrSandboxes(t *testing.T) {
	ctr := need.Client(t, "ctr")
	shim := engine.Binary(t, "containerd-shim-gantry-v2")
	story := []step{
		{args: "sandboxes run --runtime $S $D/pod.json one", want: "one"},
		{args: "sandboxes run --runtime $S $D/pod.json one", loose: true, want: "already exists"},
		{args: "sandboxes ls", want: "one"},
		{args: "sandboxes ls --filters id==two"},
		{args: "sandboxes run --runtime io.containerd.none.v9 $D/pod.json two", loose: true, want: "two"},
		{args: "sandboxes info none", want: "failed to load sandbox none"},
		{args: "sandboxes rm one", loose: true},
		{args: "sandboxes rm --force one", loose: true},
		{args: "sandboxes rm --force two", loose: true},
		{args: "sandboxes ls"},
	}
	theirs, ours := theirs(t), ours(t)
	tell := func(c core) []result {
		if err := os.WriteFile(filepath.Join(c.dir, "pod.json"), []byte(`{"metadata":{"name":"pod","namespace":"default","uid":"1"}}`), 0o600); err != nil {
			t.Fatal(err)
		}
		return c.tell(t, ctr, story, "$S", shim)
	}
	a, b := tell(theirs), tell(ours)
	alike(t, story, theirs, ours, a, b)
}
