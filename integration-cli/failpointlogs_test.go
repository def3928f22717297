package integrationcli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"gantry/api/failpoint"
)

func init() { acts["shim/output."] = (*site).rotate }

// rotating is a container whose log is rotated and compressed many times.
func rotating() object {
	return object{
		"Image": image, "Cmd": []string{"sh", "-c", countLines(1500) + "; sleep 1000"},
		"HostConfig": object{"LogConfig": object{"Type": "local", "Config": object{"max-size": "8k", "max-file": "5"}}},
	}
}

// rotate lets a log be rotated and compressed, and takes it away.
func (s *site) rotate() error {
	if err := s.begin(rotating()); err != nil {
		return err
	}
	if !becomesTrue(20*time.Second, func() bool {
		return s.e.Docker("logs", "--tail", "1", "fp").Stdout == "line 1499\n" || s.e.Docker("inspect", "-f", "{{.State.Running}}", "fp").Stdout != "true\n"
	}) {
		return errors.New("the end of the log does not come")
	}
	packed := filepath.Join(s.e.Dir, "data", "containers", s.said.container, "local-logs", "container.log.*.gz")
	if !becomesTrue(5*time.Second, func() bool { names, _ := filepath.Glob(packed); return len(names) == 4 }) {
		return errors.New("the log is not compressed")
	}
	s.said.up = false
	id := s.said.container
	s.said.container = ""
	if _, err := s.call("DELETE", "/containers/fp?force=1", nil); err != nil {
		return err
	}
	s.said.noContainer = id
	return nil
}

// TestLogOutlivesShim lets the shim die between the steps of a rotation and of a
// compression: what was kept is read, once and in order, and the next run goes on.
func TestLogOutlivesShim(t *testing.T) {
	t.Parallel()
	needFailpoints(t)
	points := slices.DeleteFunc(failpoints(t), func(p string) bool { return !strings.HasPrefix(p, "shim/output.") })
	if len(points) < 4 {
		t.Fatalf("points %q", points)
	}
	e := start(t)
	for _, point := range points {
		t.Run(point, func(t *testing.T) {
			mark := filepath.Join(e.Dir, "mark")
			os.Remove(mark)
			e.Kill()
			if err := e.TryLaunch(failpoint.Variable+"="+point+"=kill@3", failpoint.Mark+"="+mark); err != nil {
				t.Fatal(err)
			}
			if _, text, err := ask(e, "POST", "/containers/create?name=log", rotating()); err != nil {
				t.Fatal(text, err)
			}
			e.Docker("start", "log") // the shim may die before that is answered
			defer e.Must("rm", "-f", "log")
			if !becomesTrue(20*time.Second, func() bool {
				_, err := os.Lstat(mark)
				return err == nil && e.Must("inspect", "-f", "{{.State.Running}}", "log") == "false"
			}) {
				t.Fatal("the shim has not died")
			}
			kept := e.Must("logs", "log")
			var last int
			if _, err := fmt.Sscanf(kept[strings.LastIndexByte(kept, '\n')+1:], "line %d", &last); err != nil {
				t.Fatalf("the log ends in %q: %v", kept[max(0, len(kept)-30):], err)
			}
			if n := consecutive(t, "after the death", kept, last); n < 50 {
				t.Errorf("%d lines are kept", n)
			}
			e.Must("start", "log")
			if !becomesTrue(20*time.Second, func() bool { return e.Must("logs", "--tail", "1", "log") == "line 1499" }) {
				t.Fatal("the next run does not come to its end")
			}
			if n := consecutive(t, "the next run", e.Must("logs", "log"), 1499); n < 100 {
				t.Errorf("%d lines are kept", n)
			}
			packed := func() bool {
				return slices.Equal(inDir(t, e, "log", "local-logs"), []string{"container.log", "container.log.1.gz", "container.log.2.gz", "container.log.3.gz", "container.log.4.gz"})
			}
			if !becomesTrue(10*time.Second, packed) {
				t.Errorf("files %q", inDir(t, e, "log", "local-logs"))
			}
		})
	}
}
