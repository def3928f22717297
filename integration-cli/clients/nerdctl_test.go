package clients

import (
	"path/filepath"
	"testing"

	"gantry/internal/testutil/need"
)

// daily is what a user of nerdctl does in a day.
var daily = []step{
	{args: "pull -q $R/bb:1", loose: true},
	{args: "images -q"},
	{args: "run --rm --net none $R/bb:1 echo hello", want: "hello"},
	{args: "run --rm --net none $R/bb:1 sh -c 'exit 4'"},
	{args: "run --rm --net none $R/none:1 true", loose: true},
	{args: "run -d --name one --net none --label a=b -e X=y $R/bb:1 sh -c 'echo first; echo second; sleep 1000'", loose: true},
	{args: "ps --format '{{.Names}} {{.Image}} {{.Command}}'"},
	{args: "exec one sh -c 'echo $X; echo inside'", want: "y"},
	{args: "exec one false"},
	{args: "exec -i one cat", stdin: "more\n", want: "more"},
	{args: "logs one"},
	{args: "logs -n 1 one"},
	{args: "inspect -f '{{.State.Status}} {{.Config.Labels.a}}' one"},
	{args: "top one", loose: true, want: "sleep"},
	{args: "stats --no-stream one", loose: true, want: "one"},
	{args: "pause one"},
	{args: "ps --format '{{.Names}} {{.Status}}'"},
	{args: "unpause one"},
	{args: "cp one:/etc/passwd $D/passwd", loose: true},
	{args: "cp $D/passwd one:/tmp/copied", loose: true},
	{args: "exec one head -n 1 /tmp/copied", loose: true, want: "root"},
	{args: "update --memory 64m one", loose: true},
	{args: "rename one two"},
	{args: "commit two local/made:1", loose: true},
	{args: "images --format '{{.Repository}} {{.Tag}}'"},
	{args: "run --rm --net none local/made:1 cat /tmp/copied", want: "root"},
	{args: "kill -s KILL two", loose: true},
	{args: "wait two", want: "137"},
	{args: "start two"},
	{args: "restart -t 0 two"},
	{args: "stop -t 0 two"},
	{args: "ps -a --format '{{.Names}}'"},
	{args: "rm two"},
	{args: "rm two"},
	{args: "volume create v"},
	{args: "run --rm --net none -v v:/v $R/bb:1 sh -c 'echo kept > /v/f'"},
	{args: "run --rm --net none -v v:/v:ro --read-only --tmpfs /t $R/bb:1 cat /v/f", want: "kept"},
	{args: "volume rm v"},
	{args: "run --rm --net none --memory 32m --pids-limit 20 --cpus 0.5 --user tester --hostname h $R/bb:1 sh -c 'id -un; hostname'", want: "tester\nh"},
	{args: "run --rm --net none --security-opt no-new-privileges --cap-drop ALL --security-opt seccomp=unconfined $R/bb:1 grep -c 0000000000000000 /proc/self/status", loose: true},
	{args: "tag $R/bb:1 $R/bb:pushed"},
	{args: "push -q $R/bb:pushed", loose: true},
	{args: "save -o $D/saved.tar local/made:1"},
	{args: "rmi -f local/made:1", loose: true},
	{args: "load -q -i $D/saved.tar", loose: true},
	{args: "images --format '{{.Repository}} {{.Tag}}'"},
	{args: "rmi -f local/made:1 $R/bb:pushed $R/bb:1", loose: true},
	{args: "images -q"},
	{args: "system prune -f", loose: true},
	{args: "namespace ls", loose: true, want: ns},
	{args: "info", loose: true, want: "overlayfs"},
}

// TestNerdctl tells the same with nerdctl to a containerd 2.x and to our core.
func TestNerdctl(t *testing.T) {
	nerdctl := need.Client(t, "nerdctl")
	r := registry(t)
	theirs, ours := theirs(t), ours(t)
	told := func(c core, story []step) []result {
		all := make([]step, len(story))
		for i, s := range story {
			s.args = "--insecure-registry --cgroup-manager cgroupfs --data-root " + filepath.Join(c.dir, "data") + " " + s.args
			all[i] = s
		}
		return c.tell(t, nerdctl, all, "$R", r.Host)
	}
	alike(t, daily, theirs, ours, told(theirs, daily), told(ours, daily))
	// With a containerd this one hangs now and then.
	told(ours, []step{{args: "run --rm -i --net none $R/bb:1 cat", stdin: "through\n", want: "through"}, {args: "rmi -f $R/bb:1"}})
}
