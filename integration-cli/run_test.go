package integrationcli

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// limitFiles are where a container sees its limits.
type limitFiles struct{ memory, cpu, pids string }

func limitsOfHost() limitFiles {
	const top = "/sys/fs/cgroup/"
	if _, err := os.Stat(top + "cgroup.controllers"); err == nil {
		return limitFiles{top + "memory.max", top + "cpu.max", top + "pids.max"}
	}
	return limitFiles{top + "memory/memory.limit_in_bytes", top + "cpu/cpu.cfs_quota_us " + top + "cpu/cpu.cfs_period_us", top + "pids/pids.max"}
}

func TestRun(t *testing.T) {
	limits := limitsOfHost()
	e := start(t)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("from the host\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, e, []row{
		{name: "true", args: sh("true"), out: "-", err: "-"},
		{name: "exit code", args: sh("exit 7"), code: 7},
		{name: "streams apart", args: sh("echo out; echo err >&2"), out: "out", err: "err"},
		{name: "killed", args: sh("sleep 100 & kill -9 $!; wait $!"), code: 137},
		{name: "terminated", args: sh("kill -TERM $$; sleep 1; exit 3"), code: 3}, // pid 1 has no default handler
		{name: "no output is lost", args: sh("i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done"), out: lines(2000)},
		{name: "stdin", args: []string{"run", "--rm", "-i", image, "cat"}, stdin: "through\nthe pipe\n", out: "through\nthe pipe"},
		{name: "stdin is closed without -i", args: []string{"run", "--rm", image, "cat"}, stdin: "ignored", out: "-"},
		{name: "half close", args: sh("cat; echo after", "-i"), stdin: "in\n", out: "in\nafter"},

		{name: "environment", args: sh(`echo $A,$B,$PATH,$HOME`, "-e", "A=1", "--env", "B=x y"), out: "1,x y,/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin,/root"},
		{name: "working directory", args: sh("pwd", "-w", "/new/dir"), out: "/new/dir"},
		{name: "user by name", args: sh("id -u; id -g; id -G; echo $HOME", "-u", "tester"), out: "1000\n1000\n1000 50\n/home/tester"},
		{name: "user by number", args: sh("id -u; id -g", "-u", "77:88"), out: "77\n88"},
		{name: "hostname", args: sh("hostname; cat /etc/hostname", "--hostname", "box"), out: "box\nbox"},
		{name: "entrypoint", args: []string{"run", "--rm", "--entrypoint", "echo", image, "a", "b"}, out: "a b"},
		{name: "labels do not hurt", args: sh("true", "-l", "a=b")},
		{name: "pid 1", args: sh("echo $$"), out: "1"},

		{name: "bind", args: sh("cat /m/f; echo new > /m/g && cat /m/g", "-v", dir+":/m"), out: "from the host\nnew"},
		{name: "bind read-only", args: sh("cat /m/f; echo x > /m/h", "-v", dir+":/m:ro"), code: 1, out: "from the host", err: "…Read-only file system"},
		{name: "mount option", args: sh("cat /m/f", "--mount", "type=bind,src="+dir+",dst=/m,readonly"), out: "from the host"},
		{name: "bind one file", args: sh("cat /etc/passwd", "-v", dir+"/f:/etc/passwd:ro"), out: "from the host"},
		{name: "tmpfs", args: sh("grep ' /t ' /proc/mounts | cut -d' ' -f3; touch /t/x && ls /t", "--tmpfs", "/t:size=1m"), out: "tmpfs\nx"},
		{name: "read-only root", args: sh("touch /x", "--read-only"), code: 1, err: "…Read-only file system"},
		{name: "read-only root with tmpfs", args: sh("touch /tmp/x && ls /tmp", "--read-only", "--tmpfs", "/tmp"), out: "x"},
		{name: "anonymous volume", args: sh("echo v > /data/x; cat /data/x", "-v", "/data"), out: "v"},

		{name: "memory limit", args: sh("cat "+limits.memory, "-m", "64m"), out: strconv.Itoa(64 << 20)},
		{name: "cpu limit", args: sh("cat "+limits.cpu+" | xargs", "--cpus", "0.5"), out: "50000 100000"},
		{name: "pids limit", args: sh("cat "+limits.pids, "--pids-limit", "33"), out: "33"},
		{name: "out of memory", args: sh("tail /dev/zero", "-m", "16m", "--memory-swap", "16m"), code: 137},

		{name: "default capabilities", args: sh("grep CapEff /proc/self/status"), out: "CapEff:\t00000000a80425fb"},
		{name: "capability dropped", args: sh("chown 1 /tmp", "--cap-drop", "CHOWN"), code: 1, err: "…Operation not permitted"},
		{name: "all dropped, one added", args: sh("grep CapEff /proc/self/status", "--cap-drop", "ALL", "--cap-add", "NET_ADMIN"), out: "CapEff:\t0000000000001000"},
		{name: "seccomp is on", args: sh("grep Seccomp: /proc/self/status"), out: "Seccomp:\t2"},
		{name: "unshare is filtered", args: sh("unshare -U true"), code: 1},
		{name: "masked", args: sh("cat /proc/kcore | head -c 1 | wc -c; ls /proc/acpi 2>/dev/null | wc -l"), out: "0\n0"},
		{name: "proc/sys is read-only", args: sh("echo 1 > /proc/sys/kernel/printk"), code: 1},
		{name: "privileged", args: sh("grep Seccomp: /proc/self/status; mount -t tmpfs none /mnt 2>/dev/null || mkdir /mnt && mount -t tmpfs none /mnt && echo mounted; test -e /dev/kmsg && echo devices", "--privileged"), out: "Seccomp:\t0\nmounted\ndevices"},
		{name: "devices", args: sh("echo x > /dev/null; head -c 3 /dev/zero | wc -c; ls /dev | grep -v core | tr '\\n' ' '"), out: "3\nfd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "},
		{name: "init", args: sh("cat /proc/1/comm", "--init"), out: "docker-init"},
		{name: "init passes the exit code", args: sh("exit 9", "--init"), code: 9},
		{name: "namespaces are its own", args: sh("ls /proc | grep -c '^[0-9]'"), out: "…"},
		{name: "shm size", args: sh("df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2", "--shm-size", "2m"), out: "2048"},
		{name: "ulimit", args: sh("ulimit -n", "--ulimit", "nofile=100:200"), out: "100"},
		{name: "no new privileges", args: sh("grep NoNewPrivs /proc/self/status", "--security-opt", "no-new-privileges"), out: "NoNewPrivs:\t1"},
		{name: "oom score below what the host grants", args: sh("true", "--oom-score-adj", "-900")},
	})
}

func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "line %d\n", i)
	}
	return strings.TrimRight(b.String(), "\n")
}

// TestBadInput pins dockerd's exit codes and words, and that nothing is left behind.
func TestBadInput(t *testing.T) {
	e := start(t)
	e.Must("run", "-d", "--name", "taken", image, "sleep", "1000")
	id := e.Must("inspect", "-f", "{{.Id}}", "taken")
	const oci = "docker: Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: "
	t.Run("while another runs", func(t *testing.T) {
		for _, r := range []row{
			{name: "name conflict", args: []string{"create", "--name", "taken", image}, code: 1,
				err: "Error response from daemon: Conflict. The container name \"/taken\" is already in use by container \"" + id + "\". You have to remove (or rename) that container to be able to reuse that name."},
			{name: "remove a running one", args: []string{"rm", "taken"}, code: 1,
				err: "Error response from daemon: cannot remove container \"taken\": container is running: stop the container before removing or force remove"},
			{name: "unpause what runs", args: []string{"unpause", "taken"}, code: 1, err: "Error response from daemon: Container " + id + " is not paused"},
			{name: "no such container", args: []string{"start", "nope"}, code: 1, err: "Error response from daemon: No such container: nope\nError: failed to start containers: nope"},
			{name: "no such container to remove", args: []string{"rm", "nope"}, code: 1, err: "Error response from daemon: No such container: nope"},
			{name: "remove an image in use", args: []string{"rmi", image}, code: 1, err: "…container " + id[:12] + "…"},
			{name: "bad signal", args: []string{"kill", "-s", "NOPE", "taken"}, code: 1, err: "Error response from daemon: cannot kill container: taken: invalid signal: NOPE"},
			{name: "no such exec command", args: []string{"exec", "taken", "nope"}, code: 127, out: "OCI runtime exec failed: exec failed: unable to start container process: exec: \"nope\": executable file not found in $PATH…"},
		} {
			t.Run(r.name, func(t *testing.T) {
				got := e.Docker(r.args...)
				if got.Code != r.code {
					t.Errorf("exit %d, want %d", got.Code, r.code)
				}
				compare(t, "stdout", got.Stdout, r.out)
				compare(t, "stderr", got.Stderr, r.err)
			})
		}
	})
	e.Clean(t)
	run(t, e, []row{
		{name: "unknown command", args: []string{"run", "--name", "bad", image, "nope"}, code: 127, err: oci + "exec: \"nope\": executable file not found in $PATH…"},
		{name: "not executable", args: []string{"run", "--name", "bad", image, "/etc/passwd"}, code: 126, err: oci + "exec: \"/etc/passwd\": permission denied…"},
		{name: "no such path", args: []string{"run", "--name", "bad", image, "/no/such"}, code: 127, err: oci + "exec: \"/no/such\": stat /no/such: no such file or directory…"},
		{name: "unknown command with --rm", args: []string{"run", "--rm", image, "nope"}, code: 127},
		{name: "bad reference", args: []string{"run", "Bad:Ref:x"}, code: 125, err: "docker: invalid reference format…"},
		{name: "missing bind source", args: []string{"run", "--rm", "--mount", "type=bind,src=/no/such,dst=/m", image, "true"}, code: 125,
			err: "docker: Error response from daemon: invalid mount config for type \"bind\": bind source path does not exist: /no/such…"},
		{name: "directory onto file", args: []string{"run", "--rm", "-v", "/tmp:/etc/passwd", image, "true"}, code: 125,
			err: "…bind /tmp on /etc/passwd: not a directory: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type…"},
		{name: "bind on procfs", args: []string{"run", "--rm", "-v", "/tmp:/proc", image, "true"}, code: 125, err: "…\"/tmp\" cannot be mounted because it is not of type proc…"},
		{name: "relative destination", args: []string{"run", "--rm", "-v", "/tmp:rel", image, "true"}, code: 125, err: "…invalid mount path: 'rel' mount path must be absolute…"},
		{name: "unknown user", args: []string{"run", "--rm", "-u", "nobodyhere", image, "true"}, code: 125,
			err: "…unable to find user nobodyhere: no matching entries in passwd file…"},
		{name: "unknown network", args: []string{"run", "--rm", "--network", "nope", image, "true"}, code: 125,
			err: "…docker: Error response from daemon: failed to set up container networking: network nope not found…"},
		{name: "unknown capability", args: []string{"run", "--rm", "--cap-add", "NOPE", image, "true"}, code: 125, err: "…invalid CapAdd: unknown capability: \"CAP_NOPE\"…"},
		{name: "too little memory", args: []string{"run", "--rm", "-m", "1m", image, "true"}, code: 125, err: "docker: Error response from daemon: Minimum memory limit allowed is 6MB…"},
		{name: "unknown runtime", args: []string{"run", "--rm", "--runtime", "nope", image, "true"}, code: 125, err: "…unknown or invalid runtime name: nope…"},
		{name: "restart policy with --rm", args: []string{"run", "--rm", "--restart", "always", image, "true"}, code: 125, err: "…conflicting options: cannot specify both --restart and --rm…"},
		{name: "log driver", args: []string{"run", "--rm", "--log-driver", "nope", image, "true"}, code: 125, err: "…logger: no log driver named 'nope' is registered…"},
	})
	if got := e.Docker("run", "nosuchimage:tag"); got.Code != 125 || !strings.HasPrefix(got.Stderr, "Unable to find image 'nosuchimage:tag' locally") {
		t.Errorf("unknown image: exit %d, %s", got.Code, got.Stderr)
	}
}

// TestFailedStartKeepsRecord pins where dockerd leaves a record: a container that
// could not start stays, created, with the code and the error.
func TestFailedStartKeepsRecord(t *testing.T) {
	e := start(t)
	e.Docker("run", "--name", "bad", image, "nope")
	got := e.Must("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}", "bad")
	if !strings.HasPrefix(got, "created 127 failed to create task for container: ") {
		t.Error(got)
	}
}

func TestRemovesItself(t *testing.T) {
	e := start(t)
	e.Must("run", "-d", "--rm", "--name", "brief", image, "true")
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if e.Must("ps", "-aq") == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a container with --rm is still there")
		}
	}
}
