package swap

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
)

// legacyCrun runs Debian's crun where it would run: it refuses a hybrid layout whose
// unified hierarchy has a controller, and takes it for legacy when that is unmounted.
const legacyCrun = `#!/bin/sh
grep -q . /sys/fs/cgroup/unified/cgroup.controllers 2>/dev/null || exec crun "$@"
exec unshare --mount --propagation slave sh -c 'umount /sys/fs/cgroup/unified; exec crun "$@"' sh "$@"
`

// gantryd runs an engine that has, beside its own runtime library, runc, crun and grun
// as runtimes by their command line.
func gantryd(t *testing.T) (*engine.Engine, caller) {
	t.Helper()
	need.Root(t, "runs containers")
	need.Command(t, "crun")
	need.Command(t, "script")
	need.Command(t, "unshare")
	crun := filepath.Join(t.TempDir(), "crun")
	if err := os.WriteFile(crun, []byte(legacyCrun), 0o755); err != nil {
		t.Fatal(err)
	}
	p := newPlace(t)
	e := engine.Start(t,
		"--add-runtime", "real="+need.Command(t, "runc"), "--add-runtime", "crun="+crun, "--add-runtime", "grun="+engine.Binary(t, "grun"))
	e.Load(busybox.Archive(t, busybox.Config{}, "busybox:test"))
	return e, caller{name: "gantryd", prelude: dockerPrelude, env: dockerEnv(e.Dir, e.Socket(), p.cgroup)}
}

func TestRuntimesUnderEngine(t *testing.T) {
	_, c := gantryd(t)
	c.compare(t, slices.Concat(runs, failures, lives), "runc", "crun")
	c.compare(t, failures, "runc", "grun")
	if fullLength() {
		c.compare(t, slices.Concat(runs, lives), "runc", "grun")
		c.compare(t, slices.Concat(runs, failures, lives), "runc", "real")
	}
}

// TestEngineDies kills the engine under containers of every runtime: they run on, what
// they say is kept, and the next engine ends them.
func TestEngineDies(t *testing.T) {
	e, c := gantryd(t)
	runtimes := []string{"crun", "real", "grun"}
	for _, r := range runtimes {
		e.Must("run", "-d", "--name", r, "--runtime", r, "--memory", "64m", "busybox:test", "sh", "-c",
			`trap 'exit 5' TERM; i=0; while :; do echo $((i=i+1)); sleep .05; done`)
		e.Must("run", "-d", "--name", "gone-"+r, "--runtime", r, "busybox:test", "sh", "-c", "sleep 1; echo last; exit 7")
	}
	e.Kill()
	time.Sleep(1200 * time.Millisecond) // what ends while there is no engine
	e.Launch()
	s := story{name: "after", script: `d inspect -f '{{.State.Status}}' $R; d exec $R sh -c 'exit 3'; echo $?; d pause $R >/dev/null; d unpause $R >/dev/null
		d update --memory 32m --memory-swap 32m $R >/dev/null; d exec $R cat /sys/fs/cgroup/memory/memory.limit_in_bytes
		d logs $R | awk '$1 != NR { print "gap", NR, $1; exit }'
		d stop $R >/dev/null; d inspect -f '{{.State.ExitCode}} {{.State.OOMKilled}}' $R; d start $R >/dev/null; d exec $R echo again; d rm -f $R >/dev/null
		d wait gone-$R; d logs gone-$R; d rm gone-$R >/dev/null`, want: "running\n3\n33554432\n5 false\nagain\n7\nlast"}
	for _, r := range runtimes {
		c.compare(t, []story{s}, "", r)
	}
}

// TestForeignShim runs containerd's own shim, with runc, under the engine: all is as with
// our shim.
func TestForeignShim(t *testing.T) {
	need.Root(t, "runs containers")
	need.Command(t, "containerd-shim-runc-v2")
	need.Command(t, "runc")
	config := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(config, []byte(`{"runtimes":{"foreign":{"runtimeType":"io.containerd.runc.v2"}}}`), 0o600); err != nil {
		t.Fatal(err)
	}
	e := engine.Start(t, "--config-file", config)
	e.Load(busybox.Archive(t, busybox.Config{}, "busybox:test"))
	c := caller{name: "gantryd", prelude: dockerPrelude, env: dockerEnv(e.Dir, e.Socket(), newPlace(t).cgroup)}
	c.compare(t, []story{
		{name: "life", script: `there() { for i in $(seq 200); do [ -s $T/$1 ] && { cat $T/$1; return; }; sleep .05; done; echo "no $1"; }
			run -d --name $N --memory 64m -v $T:/t $I sh -c 'trap "exit 5" TERM; echo out; echo up >/t/up; while :; do sleep .05; done' >/dev/null
			there up; d logs $N; d exec $N echo in; d inspect -f '{{.State.Status}}' $N; d exec -d $N sh -c 'echo in >/t/in'; there in
			d top $N -o pid,args | grep -c trap; d stats --no-stream --format '{{.MemUsage}}' $N | grep -o '/ 64MiB'
			d pause $N; d inspect -f '{{.State.Status}}' $N; d unpause $N
			d update --memory 32m --memory-swap 32m $N >/dev/null; d exec -d $N sh -c 'cat /sys/fs/cgroup/memory/memory.limit_in_bytes >/t/limit'; there limit
			d stop $N; d inspect -f '{{.State.ExitCode}}' $N; d start $N; d kill $N; d wait $N; d rm $N`,
			want: "up\nout\nin\nrunning\nin\n1\n/ 64MiB\nNAME\npaused\nNAME\n33554432\nNAME\n5\nNAME\nNAME\n137\nNAME"},
		{name: "no such command", script: `run -d $I nope 2>/dev/null; echo $?; d ps -aq | xargs docker rm >/dev/null`, want: "…127"},
	}, "", "foreign")
	e.Must("run", "-d", "--name", "survivor", "--runtime", "foreign", "busybox:test", "sleep", "1000")
	e.Kill()
	e.Launch()
	e.Must("stop", "-t", "0", "survivor")
	if code := e.Must("wait", "survivor"); code != "137" {
		t.Errorf("stopped by the next engine: %s", code)
	}
	e.Must("rm", "survivor")
}
