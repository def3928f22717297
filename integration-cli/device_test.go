package integrationcli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const cdiSpec = `{"cdiVersion":"0.6.0","kind":"vendor.example/thing","devices":[{"name":"one","containerEdits":{
"env":["THING=one"],
"deviceNodes":[{"path":"/dev/thing","hostPath":"/dev/full"}],
"mounts":[{"hostPath":"DIR","containerPath":"/thing","options":["ro","rbind"]}]}}]}`

func TestDevices(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "spec.json"), []byte(strings.ReplaceAll(cdiSpec, "DIR", dir)), 0o644); err != nil {
		t.Fatal(err)
	}
	nodes := filepath.Join(t.TempDir(), "nodes")
	if err := os.MkdirAll(filepath.Join(nodes, "deep"), 0o755); err != nil {
		t.Fatal(err)
	}
	makeNode(t, filepath.Join(nodes, "control"), 10, 237) // of loop devices: not among those that all may use
	makeNode(t, filepath.Join(nodes, "deep", "full"), 1, 7)
	if err := os.Symlink(filepath.Join(nodes, "control"), filepath.Join(nodes, "link")); err != nil {
		t.Fatal(err)
	}
	e := start(t, "--cdi-spec-dir", dir)
	run(t, e, []row{
		{name: "by CDI", args: sh(`echo $THING; ls /thing; echo x > /dev/thing`, "--device", "vendor.example/thing=one"), code: 1, out: "one\nspec.json", err: "…No space left on device"},
		{name: "by CDI in --gpus", args: sh(`echo $THING`, "--gpus", `driver=cdi,"device=vendor.example/thing=one"`), out: "one"},
		{name: "unknown in CDI", args: sh("true", "--device", "vendor.example/thing=two"), code: 125, err: "…CDI device injection failed: unresolvable CDI devices vendor.example/thing=two…"},
		{name: "gpus", args: sh("true", "--gpus", "all"), code: 125, err: `…could not select device driver "" with capabilities: [[gpu]]…`},
		{name: "node", args: sh("head -c 0 /dev/x && echo read; : > /dev/x", "--device", nodes+"/link:/dev/x:r"), code: 1, out: "read", err: "…Operation not permitted"},
		{name: "directory of nodes", args: sh("cd /dev/d && find . -type c | sort | xargs", "--device", nodes+":/dev/d"), out: "./control ./deep/full"},
		{name: "no node", args: sh("true", "--device", dir+":/dev/x"), code: 125, err: "…error gathering device information while adding custom device \"" + dir + "\": not a device node…"},
		{name: "nothing", args: sh("true", "--device", "/dev/nothing"), code: 127, err: "…error gathering device information while adding custom device \"/dev/nothing\": no such file or directory…"},
		{name: "rule", args: sh("mknod /k c 10 237 && head -c 0 /k && echo allowed", "--device-cgroup-rule", "c 10:237 rm"), out: "allowed"},
		{name: "rule of another", args: sh("mknod /k c 10 237 && head -c 0 /k", "--device-cgroup-rule", "c 10:236 rm"), code: 1},
	})
	if got := e.Must("info", "-f", "{{.CDISpecDirs}} {{range .DiscoveredDevices}}{{.Source}} {{.ID}}{{end}}"); got != "["+dir+"] cdi vendor.example/thing=one" {
		t.Errorf("info: %s", got)
	}
}

func makeNode(t *testing.T, path string, major, minor uint32) {
	t.Helper()
	if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(major, minor))); err != nil {
		t.Fatal(err)
	}
}
