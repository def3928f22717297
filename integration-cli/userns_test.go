package integrationcli

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/moby/sys/user"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/need"
)

// remapUser is a user of every Debian, whose subordinate ids the tests lend him.
const remapUser = "daemon"

// subordinate lends remapUser subordinate ids where he has none, and returns the host's id
// of a container's root.
func subordinate(t *testing.T) int {
	t.Helper()
	need.Root(t, "writes /etc/subuid")
	first := 0
	for _, path := range []string{"/etc/subgid", "/etc/subuid"} {
		old, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		all, err := user.ParseSubID(strings.NewReader(string(old)))
		if err != nil {
			t.Fatal(err)
		}
		next := int64(700000)
		for _, s := range all {
			next = max(next, s.SubID+s.Count)
			if s.Name == remapUser && first == 0 {
				first = int(s.SubID)
			}
		}
		if first > 0 {
			continue
		}
		line := fmt.Sprintf("%s:%d:65536\n", remapUser, next)
		if err := os.WriteFile(path, append(old, line...), 0o644); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			now, _ := os.ReadFile(path)
			os.WriteFile(path, []byte(strings.Replace(string(now), line, "", 1)), 0o644)
		})
		if path == "/etc/subuid" {
			first = int(next)
		}
	}
	return first
}

// startRemapped runs an engine whose containers have ids of their own.
func startRemapped(t *testing.T, args ...string) (e *engine.Engine, root int) {
	t.Helper()
	engine.MapsIDs(t)
	root = subordinate(t)
	e = engine.Start(t, append([]string{"--userns-remap", remapUser}, args...)...)
	e.Load(busybox.Archive(t, busybox.Config{}, image))
	return e, root
}

func hostOwner(t *testing.T, path string) string {
	t.Helper()
	fi, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	st := fi.Sys().(*syscall.Stat_t)
	return fmt.Sprintf("%d:%d", st.Uid, st.Gid)
}

func TestUserns(t *testing.T) {
	e, root := startRemapped(t)
	base := strconv.Itoa(root)
	secret := t.TempDir()
	os.WriteFile(secret+"/shadow", []byte("secret\n"), 0o600)
	os.WriteFile(secret+"/public", []byte("public\n"), 0o644)
	os.Chmod(secret, 0o755)
	given := t.TempDir()
	os.Chown(given, root, root)

	privileged := "…privileged mode is incompatible with user namespaces.  You must run the container in the host namespace when running privileged mode…"
	run(t, e, []row{
		{name: "ids", args: sh("id -u; xargs < /proc/self/uid_map; xargs < /proc/self/gid_map"), out: "0\n0 " + base + " 65536\n0 " + base + " 65536"},
		{name: "files of the image", args: sh("stat -c %u:%g / /bin /etc/passwd /etc /root"), out: "0:0\n0:0\n0:0\n0:0\n0:0"},
		{name: "files of the engine", args: sh("stat -c %u /etc/hosts /etc/hostname /etc/resolv.conf; echo 1.2.3.4 x >>/etc/hosts && echo ok"), out: "0\n0\n0\nok"},
		{name: "writes and changes owners", args: sh("touch /x; chown 5:6 /x; stat -c %u:%g /x; echo y >>/etc/passwd; chown 7 /etc/group; stat -c %u:%g /etc/passwd /etc/group"), out: "5:6\n0:0\n7:0"},
		{name: "user by name", args: sh("id -u; id -g; id -G; touch /tmp/x && stat -c %u /tmp/x", "-u", "tester"), out: "1000\n1000\n1000 50\n1000"},
		{name: "standard streams can be opened", args: sh("echo out >/dev/stdout; echo err >/dev/stderr"), out: "out", err: "err"},
		{name: "by another user too", args: sh("echo out >/dev/stdout; echo err >/dev/stderr", "-u", "77:88"), out: "out", err: "err"},
		{name: "standard input", args: sh("cat /dev/stdin", "-i"), stdin: "in\n", out: "in"},
		{name: "capabilities", args: sh("grep CapEff /proc/self/status"), out: "CapEff:\t00000000a80425fb"},
		{name: "all capabilities are of its namespace only", args: sh("mkdir -p /m; mount -t tmpfs none /m && echo mounted; date -s 2001-01-01 2>&1 | grep -o 'not permitted'; mknod /n c 1 3 2>&1 | grep -o 'not permitted'",
			"--cap-add", "ALL", "--security-opt", "seccomp=unconfined"), out: "mounted\nnot permitted\nnot permitted", code: 0},
		{name: "devices", args: sh("echo x >/dev/null; head -c 3 /dev/zero | wc -c; ls /dev | grep -v core | tr '\\n' ' '"), out: "3\nfd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "},
		{name: "a device of another name", args: sh("head -c 3 /dev/other | wc -c; head -c 2 /dev/zero2 | wc -c", "--device", "/dev/zero:/dev/other", "--device", "/dev/zero:/dev/zero2"), out: "3\n2"},
		{name: "sysfs and mqueue", args: sh("ls /sys/class/net | xargs; grep -c ' /dev/mqueue mqueue' /proc/mounts"), out: "eth0 lo\n1"},
		{name: "sysctl of its network", args: sh("cat /proc/sys/net/ipv4/ip_default_ttl /proc/sys/net/ipv4/ip_unprivileged_port_start", "--sysctl", "net.ipv4.ip_default_ttl=33"), out: "33\n0"},
		{name: "sysctl of the host stays", args: sh("echo 1 >/proc/sys/kernel/printk"), code: 1},
		{name: "shared memory", args: sh("echo x >/dev/shm/x && stat -c %u /dev/shm/x; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2", "--shm-size", "2m"), out: "0\n2048"},
		{name: "shareable memory", args: sh("echo x >/dev/shm/x && stat -c %u /dev/shm /dev/shm/x", "--ipc", "shareable"), out: "0\n0"},
		{name: "tmpfs", args: sh("touch /t/x && stat -c %u:%g /t /t/x", "--tmpfs", "/t:size=1m,uid=5,gid=6,mode=777"), out: "5:6\n0:0"},
		{name: "init", args: sh("cat /proc/1/comm", "--init"), out: "docker-init"},
		{name: "an image", args: sh("stat -c %u:%g /i /i/bin /i/etc/passwd; touch /i/x", "--mount", "type=image,src="+image+",dst=/i"), out: "0:0\n0:0\n0:0", code: 1, err: "…Read-only file system"},
		{name: "a terminal", args: sh("tty; stat -c %u /dev/pts/0; echo x >/dev/tty", "-t"), out: "/dev/pts/0\n0\nx"},
		{name: "working directory", args: sh("pwd; stat -c %u:%g /new /new/dir", "-w", "/new/dir"), out: "/new/dir\n0:0\n0:0"},
		{name: "working directory of a user", args: sh("touch x; stat -c %u:%g . x", "-w", "/new/dir", "-u", "tester"), out: "1000:1000\n1000:1000"},
		{name: "read-only root", args: sh("touch /x", "--read-only"), code: 1, err: "…Read-only file system"},
		{name: "no network", args: sh("ls /sys/class/net", "--network", "none"), out: "lo"},
		{name: "anonymous volume", args: sh("touch /data/x; stat -c %u:%g /data /data/x", "-v", "/data"), out: "0:0\n0:0"},
		{name: "a missing source of a bind", args: sh("touch /m/x && stat -c %u /m", "-v", filepath.Join(given, "a/b")+":/m"), out: "0"},
		{name: "limits", args: sh("true", "-m", "64m", "--cpus", "0.5", "--pids-limit", "30", "--ulimit", "nofile=100:200")},
		{name: "exit code", args: sh("exit 7"), code: 7},
		{name: "out of memory", args: sh("tail /dev/zero", "-m", "16m", "--memory-swap", "16m"), code: 137},

		// Root inside is nobody outside.
		{name: "a file of the host's root can be read if all may", args: sh("cat /m/public; stat -c %u /m/public", "-v", secret+":/m"), out: "public\n65534"},
		{name: "but not a secret", args: sh("cat /m/shadow", "-v", secret+":/m"), code: 1, err: "…Permission denied"},
		{name: "nor written", args: sh("echo x >>/m/public", "-v", secret+":/m"), code: 1, err: "…Permission denied"},
		{name: "nor made", args: sh("touch /m/new", "-v", secret+":/m"), code: 1, err: "…Permission denied"},
		{name: "nor taken", args: sh("chown 0 /m/public; chmod 777 /m/public", "-v", secret+":/m"), code: 1, err: "…Operation not permitted"},
		{name: "set-user-id is the container's", args: sh("cp /bin/busybox /m/su; chmod 4755 /m/su", "-v", given+":/m"), out: "-"},

		{name: "privileged", args: sh("true", "--privileged"), code: 125, err: privileged},
		{name: "the host's network", args: sh("true", "--network", "host"), code: 125, err: "…cannot share the host's network namespace when user namespaces are enabled…"},
		{name: "the host's processes", args: sh("true", "--pid", "host"), code: 125, err: "…cannot share the host PID namespace when user namespaces are enabled…"},
		{name: "writable cgroups", args: sh("true", "--security-opt", "writable-cgroups=true"), code: 125, err: "…option WritableCgroups conflicts with user namespaces and rootless mode…"},
		{name: "an unknown mode", args: sh("true", "--userns", "other"), code: 125, err: "…"},

		{name: "in the host's namespace", args: sh("xargs </proc/self/uid_map; stat -c %u /bin", "--userns", "host"), out: "0 0 4294967295\n0"},
		{name: "privileged there", args: sh("mkdir /m; mount -t tmpfs none /m && echo mounted", "--userns", "host", "--privileged"), out: "mounted"},
		{name: "the host's network there", args: sh("ls /sys/class/net | grep -c "+e.Bridge, "--userns", "host", "--network", "host"), out: "1"},
	})
	if got := hostOwner(t, given+"/su"); got != base+":"+base {
		t.Errorf("a file made by a container belongs to %s", got)
	}
	if got := hostOwner(t, given+"/a"); got != base+":"+base {
		t.Errorf("a directory made for a bind belongs to %s", got)
	}
	if out := e.Must("info", "--format", "{{.SecurityOptions}}"); !strings.Contains(out, "name=userns") {
		t.Errorf("security options: %s", out)
	}
}

// TestUsernsCopies: what goes in and out of a container has the ids of its inside, and so
// has what is made of it.
func TestUsernsCopies(t *testing.T) {
	e, root := startRemapped(t)
	host := t.TempDir()
	os.WriteFile(host+"/file", []byte("x\n"), 0o644)
	os.Chown(host+"/file", 5, 6)
	change := "touch /own; chown 5:6 /own; echo y >>/etc/passwd; rm /etc/group; mkdir /vol/d; touch /vol/f; exec sleep 1000"
	e.Must("run", "-d", "--name", "up", "-v", "vol:/vol", image, "sh", "-c", change)
	eventually(t, "the changes", func() bool { return e.Docker("exec", "up", "test", "-e", "/vol/f").Code == 0 })
	e.Must("run", "--name", "down", "-v", "vol:/vol", image, "sh", "-c", strings.TrimSuffix(change, "; exec sleep 1000")+" || true")
	for _, c := range []string{"up", "down"} {
		e.Must("cp", host+"/file", c+":/plain")
		e.Must("cp", "-a", host+"/file", c+":/archived")
		e.Must("cp", host+"/file", c+":/vol/"+c)
		for path, want := range map[string]string{"/own": "5:6", "/etc/passwd": "0:0", "/bin": "0:0", "/vol/f": "0:0", "/archived": "5:6"} {
			r := e.Cmd(t.Context(), "cp", c+":"+path, "-")
			out, err := r.Output()
			if err != nil {
				t.Fatalf("cp %s: %v", path, err)
			}
			if got := tarOwner(t, out, strings.TrimPrefix(filepath.Base(path), "/")); got != want {
				t.Errorf("%s: %s comes out as %s, want %s", c, path, got, want)
			}
		}
		changed := e.Must("diff", c)
		for _, line := range []string{"A /own", "C /etc/passwd", "D /etc/group", "A /archived"} {
			if !strings.Contains(changed, line) {
				t.Errorf("%s: no %s in the changes\n%s", c, line, changed)
			}
		}
		if strings.Contains(changed, "/bin") {
			t.Errorf("%s: unchanged files among the changes\n%s", c, changed)
		}
		out, err := e.Cmd(t.Context(), "export", c).Output()
		if err != nil {
			t.Fatal(err)
		}
		if got := tarOwner(t, out, "own"); got != "5:6" {
			t.Errorf("%s: exported as %s", c, got)
		}
		if !engine.OnContainerd() {
			e.Must("commit", c, "made:"+c)
		} else if r := e.Docker("commit", c, "made:"+c); r.Code != 1 || !strings.Contains(r.Stderr, "with the host's ids") {
			t.Errorf("commit: exit %d, %s", r.Code, r.Stderr)
		}
	}
	script := "stat -c %u:%g /own /etc/passwd /bin /archived; test ! -e /etc/group && echo gone"
	for _, r := range []row{
		{name: "in a running container", args: []string{"exec", "up", "stat", "-c", "%u:%g", "/plain", "/archived", "/vol/up", "/own"}, out: "5:6\n5:6\n5:6\n5:6"},
		{name: "of a committed image", args: []string{"run", "--rm", "made:up", "sh", "-c", script}, out: "5:6\n0:0\n0:0\n5:6\ngone"},
		{name: "of a committed image, stopped", args: []string{"run", "--rm", "made:down", "sh", "-c", script}, out: "5:6\n0:0\n0:0\n5:6\ngone"},
		{name: "in the host's namespace", args: []string{"run", "--rm", "--userns", "host", "made:up", "sh", "-c", script}, out: "5:6\n0:0\n0:0\n5:6\ngone"},
		{name: "a volume is filled from the image", args: []string{"run", "--rm", "-v", "filled:/etc", image, "sh", "-c", "stat -c %u:%g /etc /etc/passwd; touch /etc/x && echo ok"}, out: "0:0\n0:0\nok"},
	} {
		if engine.OnContainerd() && strings.HasPrefix(r.name, "of a committed image") || engine.OnContainerd() && r.name == "in the host's namespace" {
			continue
		}
		got := e.Docker(r.args...)
		compare(t, r.name, got.Stdout+got.Stderr, r.out)
	}
	for path, want := range map[string]int{"vol/_data": 0, "vol/_data/up": 5, "vol/_data/f": 0, "filled/_data/passwd": 0} {
		got := hostOwner(t, filepath.Join(e.Dir, "data/volumes", path))
		if uid, _, _ := strings.Cut(got, ":"); uid != strconv.Itoa(root+want) {
			t.Errorf("%s belongs to %s on the host, want %d", path, got, root+want)
		}
	}
	e.Must("rm", "-f", "up", "down")
}

// tarOwner is who owns an entry of a tar.
func tarOwner(t *testing.T, raw []byte, name string) string {
	t.Helper()
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		hdr, err := r.Next()
		if err != nil {
			t.Errorf("no %s in the tar: %v", name, err)
			return ""
		}
		if strings.TrimSuffix(hdr.Name, "/") == name {
			return fmt.Sprintf("%d:%d", hdr.Uid, hdr.Gid)
		}
	}
}

// TestUsernsLife: what is done with a running container, over the death of the daemon.
func TestUsernsLife(t *testing.T) {
	e, root := startRemapped(t)
	e.Must("run", "-d", "--name", "web", "-p", "127.0.0.1::80", "--ipc", "shareable", "--restart", "unless-stopped",
		"--health-cmd", "test $(id -u) = 0 && touch /healthy", "--health-interval", "200ms", image, "httpd", "-f", "-p", "80", "-h", "/etc")
	pins := func() (n int) {
		t.Helper()
		raw, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(string(raw), "\n") {
			if strings.Contains(line, e.Dir+"/exec/netns/") {
				n++
			}
		}
		return n
	}
	if n := pins(); n != 2 {
		t.Errorf("%d namespaces are held for a container, want its network's and its user's", n)
	}
	address := e.Must("port", "web", "80")
	get := func() string {
		t.Helper()
		resp, err := http.Get("http://" + strings.TrimSpace(address) + "/hostname")
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return strings.TrimSpace(string(body))
	}
	id := e.Must("inspect", "-f", "{{.Id}}", "web")[:12]
	rows := []row{
		{name: "exec", args: []string{"exec", "web", "sh", "-c", "id -u; xargs </proc/self/uid_map; echo x >/dev/stdout"}, out: fmt.Sprintf("0\n0 %d 65536\nx", root)},
		{name: "exec of a user", args: []string{"exec", "-u", "tester", "web", "sh", "-c", "id -u; id -G; echo x >/dev/stderr"}, out: "1000\n1000 50\nx"},
		{name: "exec of a number", args: []string{"exec", "-u", "7:8", "-w", "/tmp", "web", "sh", "-c", "id -u; id -g; pwd"}, out: "7\n8\n/tmp"},
		{name: "privileged exec", args: []string{"exec", "--privileged", "web", "sh", "-c", "ip link set dev lo mtu 60000 && echo ok; date -s 2001-01-01 2>&1 | grep -o 'not permitted'"}, out: "ok\nnot permitted"},
		{name: "exec into the host is not", args: []string{"exec", "web", "sh", "-c", "cat /proc/1/environ >/dev/null && echo own"}, out: "own"},
		{name: "network of another", args: sh("hostname; wget -qO- http://127.0.0.1/hostname; ls /sys/class/net | xargs", "--network", "container:web"), out: id + "\n" + id + "\neth0 lo"},
		{name: "network and processes of another", args: sh("ps | grep -c 'httpd -[f]'", "--network", "container:web", "--pid", "container:web"), out: "1"},
		{name: "memory of another", args: sh("readlink /proc/self/ns/user; touch /dev/shm/x && echo ok", "--network", "container:web", "--ipc", "container:web"), out: "…ok"},
		{name: "processes alone", args: sh("true", "--pid", "container:web"), code: 127, out: "…the network of container web must be joined too…"},
		{name: "from the host's namespace", args: sh("xargs </proc/self/uid_map; ls /sys/class/net | xargs", "--userns", "host", "--network", "container:web"), out: "0 0 4294967295\neth0 lo"},
		{name: "updated", args: []string{"update", "--memory", "64m", "--memory-swap", "64m", "web"}, out: "web"},
		{name: "listed", args: []string{"top", "web", "-o", "pid,uid,comm"}, out: fmt.Sprintf("…%d              httpd", root)},
		{name: "paused", args: []string{"pause", "web"}, out: "web"},
		{name: "unpaused", args: []string{"unpause", "web"}, out: "web"},
		{name: "stats", args: []string{"stats", "--no-stream", "--format", "{{.Name}}", "web"}, out: "web"},
	}
	check := func(when string, rows []row) {
		t.Helper()
		for _, r := range rows {
			got := e.Docker(r.args...)
			compare(t, when+": "+r.name, got.Stdout+got.Stderr, r.out)
		}
		eventually(t, "the container to be healthy", func() bool {
			return strings.TrimSpace(e.Must("inspect", "-f", "{{.State.Health.Status}}", "web")) == "healthy"
		})
		if got := get(); got != id {
			t.Errorf("%s: the published port answers %q, want %q", when, got, id)
		}
	}
	check("first", rows)
	e.Kill()
	e.Launch()
	check("after the daemon's death", rows[:7])
	if n := pins(); n != 2 {
		t.Errorf("%d namespaces are held after the daemon's death", n)
	}
	e.Must("restart", "-t", "0", "web")
	address = e.Must("port", "web", "80")
	check("restarted", rows[:2])
	e.Must("stop", "-t", "0", "web")
	eventually(t, "no namespace to be held", func() bool { return pins() == 0 })
	e.Must("rm", "web")
}

// TestUsernsForGood: a container keeps the ids that it was made with, whatever the daemon
// is told later.
func TestUsernsForGood(t *testing.T) {
	engine.MapsIDs(t)
	root := subordinate(t)
	e := start(t)
	remap(t, e, remapUser)
	script := "xargs </proc/self/uid_map; stat -c %u / /x; touch /x"
	e.Must("create", "--name", "own", image, "sh", "-c", script)
	e.Must("create", "--name", "hosts", "--userns", "host", "--privileged", image, "sh", "-c", script)
	if got := e.Must("inspect", "-f", "{{.HostConfig.UsernsMode}}", "hosts"); strings.TrimSpace(got) != "host" {
		t.Errorf("mode %q", got)
	}
	both := func(when string) {
		t.Helper()
		own, hosts := e.Docker("start", "-a", "own"), e.Docker("start", "-a", "hosts")
		compare(t, when+", its own", own.Stdout, fmt.Sprintf("0 %d 65536\n0…", root))
		compare(t, when+", the host's", hosts.Stdout, "0 0 4294967295\n0…")
	}
	both("remapped")
	remap(t, e, remapUser+":"+remapUser)
	both("again")
	remap(t, e, "")
	both("no longer remapped")
	e.Must("rm", "own", "hosts")
}

// remap starts the daemon anew with another setting.
func remap(t *testing.T, e *engine.Engine, option string) {
	t.Helper()
	e.Terminate()
	setRemap(t, e, option)
	e.Launch()
}

func setRemap(t *testing.T, e *engine.Engine, option string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(e.Dir, "daemon.json"), fmt.Appendf(nil, `{"userns-remap": %q}`, option), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestUsernsRefused(t *testing.T) {
	e := start(t)
	e.Terminate()
	for _, c := range []struct{ option, want string }{
		{"nosuchuser", `Error during uid lookup for "nosuchuser": `},
		{"99999", "Uid 99999 has no entry in /etc/passwd: "},
		{"daemon:nosuchgroup", `Error during groupname lookup for "nosuchgroup": `},
		{"daemon:daemon:daemon", `Invalid user/group specification in --userns-remap: "daemon:daemon:daemon"`},
		{"nobody:nogroup", `Can't create ID mappings: no subuid ranges found for user "nobody"`},
	} {
		setRemap(t, e, c.option)
		err := e.TryLaunch()
		if err == nil || !strings.Contains(e.Log(), c.want) {
			t.Errorf("%s: %v, the log has no %s", c.option, err, c.want)
		}
	}
	setRemap(t, e, "")
	e.Launch()
}

// TestUsernsRunc: another OCI runtime under our shim has the same ids and layers.
func TestUsernsRunc(t *testing.T) {
	e, root := startRemapped(t, "--add-runtime", "other="+need.Command(t, "runc"))
	os.Chmod(e.Dir, 0o711) // runc goes to the root by its path, as root of the user namespace
	other := func(script string, flags ...string) []string {
		return sh(script, append([]string{"--runtime", "other"}, flags...)...)
	}
	run(t, e, []row{
		{name: "ids", args: other("id -u; xargs </proc/self/uid_map"), out: fmt.Sprintf("0\n0 %d 65536", root)},
		{name: "files", args: other("stat -c %u:%g / /bin /etc/hosts; touch /x && stat -c %u /x"), out: "0:0\n0:0\n0:0\n0"},
		{name: "standard streams", args: other("echo out >/dev/stdout; echo err >/dev/stderr", "-u", "7:8"), out: "out", err: "err"},
		{name: "network", args: other("ls /sys/class/net | xargs; cat /proc/sys/net/ipv4/ip_default_ttl", "--sysctl", "net.ipv4.ip_default_ttl=33"), out: "eth0 lo\n33"},
		{name: "volume", args: other("touch /data/x && stat -c %u /data/x", "-v", "/data"), out: "0"},
	})
}
