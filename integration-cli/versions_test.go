package integrationcli

import (
	"fmt"
	"strings"
	"testing"
)

// TestEveryVersion has the docker CLI speak an API version to one container's whole life;
// in the normal run those at which that changed most.
func TestEveryVersion(t *testing.T) {
	e := start(t)
	minors := []int{24, 39, 51}
	if scale(1, 0) == 1 {
		minors = nil
		for minor := 24; minor <= 51; minor++ {
			minors = append(minors, minor)
		}
	}
	ipc := func(minor int) string {
		if minor < 40 {
			return "shareable"
		}
		return "private"
	}
	for _, minor := range minors {
		version := fmt.Sprintf("1.%d", minor)
		t.Run(version, func(t *testing.T) {
			t.Setenv("DOCKER_API_VERSION", version)
			name := fmt.Sprintf("v%d", minor)
			inTurn(t, e, []row{
				{name: "version", args: []string{"version", "-f", "{{.Client.APIVersion}} {{.Server.APIVersion}}"}, out: version + " 1.51"},
				{name: "info", args: []string{"info", "-f", "{{.ServerErrors}} {{.OSType}}"}, out: "[] linux"},
				{name: "run", args: []string{"run", "--rm", "-i", image, "sh", "-c", "cat; echo err >&2; exit 3"}, stdin: "in\n", code: 3, out: "in", err: "err"},
				{name: "gone", args: []string{"ps", "-aq"}, out: "-"},
				{name: "detached", args: []string{"run", "-d", "--name", name, "-v", name + ":/v", image, "sh", "-c", "echo line; read x </dev/zero; sleep 1000"}},
				{name: "list", args: []string{"ps", "--format", "{{.Names}} {{.State}}"}, out: name + " running"},
				{name: "inspect", args: []string{"inspect", "-f", "{{.Name}} {{.HostConfig.AutoRemove}} {{.HostConfig.IpcMode}}", name}, out: "/" + name + " false " + ipc(minor)},
				{name: "exec", args: []string{"exec", "-i", name, "cat"}, stdin: "through\n", out: "through"},
				{name: "logs", args: []string{"logs", name}, out: "line"},
				{name: "copy", args: []string{"cp", name + ":/etc/group", "-"}, out: "…root:x:0…"},
				{name: "stats", args: []string{"stats", "--no-stream", "--format", "{{.Name}}", name}, out: name},
				{name: "update", args: []string{"update", "--memory", "64m", "--memory-swap", "64m", name}, out: name},
				{name: "stop", args: []string{"stop", "-t", "0", name}, out: name},
				{name: "wait", args: []string{"wait", name}, out: "137"},
				{name: "start", args: []string{"start", name}, out: name},
				{name: "remove", args: []string{"rm", "-f", name}, out: name},
				{name: "volume", args: []string{"volume", "rm", name}, out: name},
			})
			got := e.Docker("system", "df", "--format", "{{.Type}}")
			if minor < 25 != strings.Contains(got.Stderr, "requires API version 1.25") || minor >= 25 != strings.HasPrefix(got.Stdout, "Images\n") {
				t.Errorf("system df: %+v", got)
			}
		})
	}
}
