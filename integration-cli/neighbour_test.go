package integrationcli

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/leak"
	"gantry/internal/testutil/need"
)

// daemonize runs a program on the lab's host until the end of the test.
func (l *lab) daemonize(env []string, name string, args ...string) {
	l.t.Helper()
	cmd := l.command(name, args...)
	log, err := os.Create(filepath.Join(l.t.TempDir(), "log"))
	if err != nil {
		l.t.Fatal(err)
	}
	defer log.Close()
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), log, log
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		cmd.Wait()
		close(ended)
	}()
	l.t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(20 * time.Second):
			cmd.Process.Kill()
			l.t.Errorf("%s did not end", name)
		}
		if l.t.Failed() {
			raw, _ := os.ReadFile(log.Name())
			l.t.Logf("log of %s:\n%s", name, raw[max(0, len(raw)-4<<10):])
		}
	})
}

// docker starts a dockerd on the lab's host and returns how its client is called.
func (l *lab) docker() func(args ...string) string {
	l.t.Helper()
	return l.dockerClient(l.dockerd())
}

// dockerd starts one on the lab's host and returns its socket.
func (l *lab) dockerd() (socket string) {
	l.t.Helper()
	dir, err := os.MkdirTemp("/tmp", "gantry-docker-") // short, for sockets
	if err != nil {
		l.t.Fatal(err)
	}
	parent := "/" + filepath.Base(dir)
	l.t.Cleanup(func() {
		for _, left := range []string{"/data", "/exec/netns/default"} { // by a dockerd that ends early, or had a container on the host's network
			unix.Unmount(dir+left, unix.MNT_DETACH)
		}
		for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
			left, _ := filepath.Glob(pattern + parent)
			for _, d := range left {
				os.Remove(d)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			l.t.Error(err)
		}
	})
	socket = filepath.Join(dir, "docker.sock")
	l.daemonize(nil, "dockerd", "--data-root", dir+"/data", "--exec-root", dir+"/exec", "-H", "unix://"+socket, "-p", dir+"/pid",
		"--cgroup-parent", parent, "--bip", "10.9.8.1/24", "--storage-driver", "vfs")
	return socket
}

// dockerClient waits until the dockerd at socket answers.
func (l *lab) dockerClient(socket string) func(args ...string) string {
	l.t.Helper()
	client := func(args ...string) (string, error) {
		cmd := exec.Command("timeout", append([]string{"-k", "2", "40", need.Command(l.t, "docker")}, args...)...)
		cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+socket, "DOCKER_CONFIG="+filepath.Dir(socket))
		cmd.Stdin = strings.NewReader(string(busybox.Archive(l.t, busybox.Config{}, image)))
		out, err := cmd.Output()
		return strings.TrimSpace(string(out)), err
	}
	eventually(l.t, "dockerd answers", func() bool { _, err := client("version"); return err == nil })
	return func(args ...string) string {
		l.t.Helper()
		out, err := client(args...)
		if err != nil {
			l.t.Fatalf("docker %s: %v", strings.Join(args, " "), err)
		}
		return out
	}
}

// needIptablesNft skips where iptables, which others run, means legacy iptables.
func needIptablesNft(t *testing.T) {
	t.Helper()
	out, _ := exec.Command(need.Command(t, "iptables"), "--version").Output()
	if !strings.Contains(string(out), "nf_tables") {
		t.Skipf("needs iptables on nftables: %s", out)
	}
}

func TestBesideDocker(t *testing.T) {
	need.Command(t, "dockerd")
	needIptablesNft(t)
	l := newLab(t)
	e := l.start()
	docker := l.docker()
	l.run("iptables-nft", "-P", "FORWARD", "DROP") // as dockerd does where it finds forwarding off: ours has it on
	l.opens(e, "beside Docker")
	want := strings.NewReplacer("BR", e.Bridge, "ID", leak.Instance(e.Dir)).Replace(`-N DOCKER-USER
-A DOCKER-USER -o BR -m comment --comment ID -j ACCEPT
-A DOCKER-USER -i BR -o docker0 -m comment --comment ID -j RETURN
-A DOCKER-USER -i BR -m comment --comment ID -j ACCEPT
-A DOCKER-USER -j RETURN
`)
	if got := l.run("iptables-nft", "-S", "DOCKER-USER"); got != want {
		t.Errorf("DOCKER-USER is\n%s\nwant\n%s", got, want)
	}
	eventually(t, "info has nothing to warn of", func() bool {
		return !strings.Contains(e.Must("info", "-f", "{{.Warnings}}"), "no rule for this bridge")
	})

	docker("load", "-q")
	docker("run", "-d", "--name", "theirs", "-p", "8090:80", image, "sh", "-c", "httpd -p 81 -h /www; httpd -f -p 80 -h /www")
	theirs := docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", "theirs")
	ask := func(host, port string) string {
		return strings.TrimSpace(e.Docker("exec", "web", "sh", "-c", fetch(host, port)).Stdout)
	}
	eventually(t, "Docker's published port answers ours", func() bool { return ask(labHost, "8090") == "gantry" })
	if got := docker("exec", "theirs", "sh", "-c", fetch("127.0.0.1", "81")); got != "gantry" {
		t.Errorf("Docker's container itself: %q", got)
	}
	if got := ask(theirs, "81"); got != "" {
		t.Errorf("a port that Docker has not published answers ours: %q", got)
	}
	if got := docker("exec", "theirs", "sh", "-c", fetch(labHost, "8080")); got != "gantry" {
		t.Errorf("from Docker's container to our published port: %q", got)
	}
	docker("rm", "-f", "theirs")

	l.run("iptables-nft", "-F", "DOCKER-USER")
	l.opens(e, "after our accepts were flushed")
	l.run("iptables-nft", "-I", "DOCKER-USER", "-s", labWorld, "-j", "DROP")
	if got, err := l.fetch(l.world, labHost+":8080"); err == nil {
		t.Errorf("an administrator's rule does not come before ours: %q", got)
	}
	l.run("iptables-nft", "-D", "DOCKER-USER", "1")
	l.opens(e, "without that rule")

	e.Must("rm", "-f", "web")
	e.Terminate()
	if got := l.run("iptables-nft", "-S"); strings.Contains(got, e.Bridge) {
		t.Errorf("an idle engine left\n%s", got)
	}
}

func TestBesideUfw(t *testing.T) {
	need.Command(t, "ufw")
	needIptablesNft(t)
	l := newLab(t)
	e := l.start()
	// ufw knows no other directories than its own; it sees copies of them.
	dir := t.TempDir()
	for _, d := range []string{"/etc/ufw", "/etc/default"} {
		if out, err := exec.Command("cp", "-a", d, filepath.Join(dir, filepath.Base(d))).CombinedOutput(); err != nil {
			t.Fatalf("copy %s: %s", d, out)
		}
	}
	ufw := func(args ...string) {
		t.Helper()
		script := `mount --make-rprivate / && mount --bind "$0/ufw" /etc/ufw && mount --bind "$0/default" /etc/default && exec "$@"`
		l.run("unshare", append([]string{"--mount", "sh", "-c", script, dir, need.Command(t, "ufw")}, args...)...)
	}
	ufw("--force", "enable")
	if got := l.run("iptables-nft", "-S", "FORWARD"); !strings.Contains(got, "-P FORWARD DROP") {
		t.Fatalf("ufw has left FORWARD open:\n%s", got)
	}
	l.opens(e, "with ufw")
	ufw("reload")
	l.opens(e, "after ufw was reloaded")
	ufw("disable")
	l.opens(e, "without ufw")
	eventually(t, "our rules have left an open FORWARD", func() bool { return !strings.Contains(l.run("iptables-nft", "-S"), e.Bridge) })
}

const busConfig = `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path=SOCKET</listen><auth>EXTERNAL</auth><policy context="default">
<allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/><allow send_type="method_call"/><allow send_type="signal"/>
</policy></busconfig>`

func TestBesideFirewalld(t *testing.T) {
	need.Command(t, "firewalld")
	need.Command(t, "dbus-daemon")
	l := newLab(t)
	dir := t.TempDir()
	socket, config := filepath.Join(dir, "bus"), filepath.Join(dir, "bus.conf")
	if err := os.WriteFile(config, []byte(strings.Replace(busConfig, "SOCKET", socket, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	env := []string{"DBUS_SYSTEM_BUS_ADDRESS=unix:path=" + socket}
	l.daemonize(env, "dbus-daemon", "--config-file="+config, "--nofork", "--nopidfile")
	eventually(t, "the bus is there", func() bool { _, err := os.Stat(socket); return err == nil })
	e := l.start(env...)
	firewalldConfig := filepath.Join(dir, "firewalld")
	if err := os.Mkdir(firewalldConfig, 0o700); err != nil {
		t.Fatal(err)
	}
	firewall := func(args ...string) string {
		cmd := exec.Command("timeout", append([]string{"-k", "2", "40", need.Command(t, "firewall-cmd")}, args...)...)
		cmd.Env = append(os.Environ(), env...)
		out, _ := cmd.Output()
		return strings.TrimSpace(string(out))
	}
	l.daemonize(env, "firewalld", "--nofork", "--nopid", "--system-config", firewalldConfig, "--log-file", filepath.Join(dir, "firewalld.log"))
	eventually(t, "firewalld runs", func() bool { return firewall("--state") == "running" })
	l.opens(e, "with firewalld")
	if got := firewall("--get-zone-of-interface=" + e.Bridge); got != "trusted" {
		t.Errorf("the bridge is in the zone %q", got)
	}
	firewall("--reload")
	l.opens(e, "after firewalld was reloaded")
	eventually(t, "info has nothing to warn of", func() bool {
		return !strings.Contains(e.Must("info", "-f", "{{.Warnings}}"), "no rule for this bridge")
	})
	e.Must("rm", "-f", "web")
	e.Terminate()
	if got := firewall("--get-zone-of-interface=" + e.Bridge); got != "" {
		t.Errorf("an idle engine has left its bridge in the zone %q", got)
	}
}
