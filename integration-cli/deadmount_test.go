package integrationcli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gantry/internal/testutil/deadmount"
	"gantry/internal/testutil/engine"
)

// within runs a docker command that must end in time, however it ends.
func within(t *testing.T, e *engine.Engine, bound time.Duration, args ...string) engine.Result {
	t.Helper()
	began := time.Now()
	r := e.Docker(args...)
	took := time.Since(began)
	t.Logf("docker %v: exit %d after %v: %.300s", args, r.Code, took.Round(time.Millisecond), r.Stderr)
	if took > bound {
		t.Errorf("docker %v took %v, want %v", args, took, bound)
	}
	return r
}

// TestDeadMount has containers on a file system that does not answer any more: what
// touches it fails in bounded time, and nothing else notices.
func TestDeadMount(t *testing.T) {
	t.Parallel()
	e := start(t)
	m := deadmount.New(t)
	e.Must("volume", "create", "-o", "type=none", "-o", "o=bind", "-o", "device="+m.Dir, "vol")
	e.Must("run", "-d", "--name", "sleeper", "-v", m.Dir+":/mnt", image, "sh", "-c", "until [ -e /go ]; do sleep 0.1; done; exec ls /mnt")
	e.Must("run", "-d", "--name", "mounted", "-v", "vol:/mnt", image, "sleep", "1000")
	e.Must("create", "--name", "later", "-v", m.Dir+":/mnt", image, "sleep", "1000")
	e.Must("create", "--name", "volume", "-v", "vol:/mnt", image, "sleep", "1000")
	m.Die()
	e.Must("exec", "sleeper", "touch", "/go")
	eventually(t, "the sleeper has met the dead server", func() bool { return m.Met() > 0 })

	for _, args := range [][]string{
		{"ps"}, {"inspect", "sleeper"}, {"inspect", "mounted"}, {"logs", "sleeper"}, {"exec", "mounted", "true"}, {"top", "sleeper"},
		{"stats", "--no-stream"}, {"system", "df", "-v"}, {"volume", "ls"}, {"volume", "inspect", "vol"}, {"info"},
		{"diff", "mounted"}, {"export", "-o", filepath.Join(t.TempDir(), "tar"), "mounted"}, {"commit", "mounted", "made:1"}, {"commit", "sleeper", "made:2"},
		{"rename", "mounted", "other"}, {"rename", "other", "mounted"}, {"update", "--restart", "no", "mounted"},
	} {
		if r := within(t, e, 15*time.Second, args...); r.Code != 0 {
			t.Errorf("docker %v: %s", args, r.Stderr)
		}
	}
	sick := [][]string{
		{"run", "-d", "-v", m.Dir + ":/mnt", image, "true"},
		{"run", "-d", "--mount", "type=bind,src=" + m.Dir + "/dir,dst=/mnt", image, "true"},
		{"run", "-d", "--name", "part", "--mount", "type=volume,src=vol,dst=/mnt,volume-subpath=dir", image, "true"},
		{"run", "-d", "--log-driver", "syslog", "--log-opt", "syslog-address=unix://" + m.Dir + "/dir/socket", image, "true"},
		{"cp", "mounted:/mnt/file", "-"}, {"cp", "deadmount_test.go", "later:/mnt"},
		{"start", "later"}, {"start", "volume"}, {"rm", "-f", "sleeper"},
	}
	lanes(t, len(sick), func(i int) error {
		if r := within(t, e, 30*time.Second, sick[i]...); r.Code == 0 || strings.TrimSpace(r.Stderr) == "" {
			return fmt.Errorf("docker %v: exit %d: %s", sick[i], r.Code, r.Stderr)
		}
		return nil
	})
	if os.Getenv("GANTRY_SOAK") == "1" {
		if r := within(t, e, 30*time.Second, "stop", "-t", "1", "sleeper"); r.Code == 0 {
			t.Error("what sleeps in the kernel was stopped")
		}
	}
	e.Kill() // nothing of it sleeps in the kernel: another can take its place
	e.Launch()
	e.Must("exec", "mounted", "true")
	m.Abort()
	eventually(t, "the sleeper has died of its kill", func() bool { return status(e, "sleeper") == "exited" })
	e.Must("rm", "-fv", "sleeper", "mounted", "later", "volume", "part")
	e.Must("volume", "rm", "vol")
	e.Must("rmi", "made:1", "made:2")
	e.Clean(t)
}
