package integrationcli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
)

// TestSoakHealth checks many containers each second: the checks are made, neither the
// daemon nor a shim keeps anything of them, and nothing is written to disk.
func TestSoakHealth(t *testing.T) {
	e := start(t)
	n, seconds := scale(100, 10), scale(300, 4)
	name := func(i int) string { return fmt.Sprint("h", i) }
	lanes(t, 4, func(lane int) error {
		for i := lane; i < n; i += 4 {
			c := sleeper("none")
			c["Healthcheck"] = object{"Test": []string{"CMD-SHELL", "date +%s >> /checked; echo looked"}, "Interval": time.Second}
			if _, err := want(e, 201, "POST", "/containers/create?name="+name(i), c); err != nil {
				return err
			}
			if _, err := want(e, 204, "POST", "/containers/"+name(i)+"/start", nil); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range n {
		healthWithin(t, e, name(i), "healthy", is(containertypes.Healthy))
	}
	time.Sleep(2 * time.Second) // states of the starts are flushed
	shim := shimOf(t, e, name(0))
	daemonBefore, shimBefore, written := usageOfDaemon(t, e, 0), usageOf(t, shim), databases(t, e.Dir)
	time.Sleep(time.Duration(seconds) * time.Second)
	flat(t, "gantryd", n*seconds, daemonBefore, usageOfDaemon(t, e, daemonBefore.goroutines))
	flat(t, "shim", seconds, shimBefore, usageOf(t, shim))
	if now := databases(t, e.Dir); now != written {
		t.Errorf("checks have been written to disk: %s, before %s", now, written)
	}
	for i := range n {
		runs := len(strings.Fields(e.Must("exec", name(i), "cat", "/checked")))
		if runs < seconds/2 { // of a busy machine
			t.Errorf("%s was checked %d times in %d s", name(i), runs, seconds)
		}
	}
}

// databases tells when the engine has last written its databases and its event log.
func databases(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	for _, pattern := range []string{"data/*.db", "data/*/*.db", "exec/*.db", "exec/*/*.db", "data/events/*"} {
		files, _ := filepath.Glob(filepath.Join(dir, pattern))
		for _, f := range files {
			st, err := os.Stat(f)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&b, "%s %d %s\n", f, st.Size(), st.ModTime())
		}
	}
	return b.String()
}
