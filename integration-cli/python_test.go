package integrationcli

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// python is Debian's own: its packages are not for others.
const python = "/usr/bin/python3"

// TestPython drives the engine by the docker SDK for Python, in the newest version that
// they agree on, the one that the SDK was made for, and the oldest.
func TestPython(t *testing.T) {
	if out, err := exec.Command(python, "-c", "import docker; docker.from_env").CombinedOutput(); err != nil {
		t.Skipf("needs the Debian package python3-docker: %v %s", err, out)
	}
	e := start(t)
	for _, version := range []string{"auto", "1.41", "1.24"} { // side by side: they wait more than they work
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, python, "-B", "-W", "ignore", "testdata/client.py")
			cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+e.Socket(), "IMAGE="+image, "VERSION="+version)
			cmd.WaitDelay = 5 * time.Second
			var out bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Run(); err != nil || !strings.Contains(out.String(), "\nRan ") {
				t.Errorf("%v\n%s", err, out.String())
			}
		})
	}
}
