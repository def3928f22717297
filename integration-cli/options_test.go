package integrationcli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestOptions runs containers with the options of `docker create` that show inside, and
// asks for what must be refused.
func TestOptions(t *testing.T) {
	parent := cgroupParent(t)
	e := start(t)
	profile := filepath.Join(t.TempDir(), "profile.json")
	if err := os.WriteFile(profile, []byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}]}`), 0o644); err != nil {
		t.Fatal(err)
	}
	seccomp := func(o string) []string { return sh("grep Seccomp: /proc/self/status", "--security-opt", "seccomp="+o) }
	const paths = "grep -c ' /proc/sys ' /proc/mounts"
	const cgroups = "awk '$3 ~ /^cgroup/ && $4 ~ /^rw/' /proc/mounts | wc -l"
	e.Must("run", "-d", "--name", "donor", "--ipc", "shareable", "--cgroup-parent", parent+"/donor", image, "sh", "-c", "echo shared > /dev/shm/mark; exec sleep 1000")
	for _, r := range []row{
		{name: "seccomp from a file", args: sh("mkdir /x", "--security-opt", "seccomp="+profile), code: 1, err: "…Operation not permitted"},
		{name: "seccomp off", args: seccomp("unconfined"), out: "Seccomp:\t0"},
		{name: "seccomp builtin", args: seccomp("builtin"), out: "Seccomp:\t2"},
		{name: "apparmor where there is none", args: sh("echo ran", "--security-opt", "apparmor=unconfined"), out: "ran"},
		{name: "label off", args: sh("echo ran", "--security-opt", "label=disable"), out: "ran", err: "-"},
		{name: "system paths", args: sh(paths, "--security-opt", "systempaths=unconfined"), code: 1, out: "0"},
		{name: "system paths by default", args: sh(paths), out: "1"},
		{name: "cgroups read-only", args: sh(cgroups), out: "0"},
		{name: "new privileges, after all", args: sh("grep NoNewPrivs /proc/self/status", "--security-opt", "no-new-privileges=false"), out: "NoNewPrivs:\t0"},
		{name: "unknown security option", args: sh("true", "--security-opt", "a=b"), code: 125, err: `…invalid --security-opt 2: "a=b"…`},

		{name: "cgroup parent", args: sh("cat /proc/self/cgroup | head -1", "--cgroup-parent", parent+"/deep"), out: "…" + parent + "/deep/…"},
		{name: "cgroup namespace", args: sh("cut -d: -f3 /proc/self/cgroup | sort -u", "--cgroupns", "private"), out: "/"},
		{name: "ipc of another", args: sh("cat /dev/shm/mark", "--ipc", "container:donor"), out: "shared"},
		{name: "no ipc", args: sh("grep -c /dev/shm /proc/mounts", "--ipc", "none"), code: 1, out: "0"},
		{name: "ipc of one that does not share", args: sh("true", "--ipc", "container:nobody"), code: 125, err: "…No such container: nobody…"},
		{name: "pids of another", args: sh("ps | grep -c 'sleep 1000'", "--pid", "container:donor"), out: "…"},
		{name: "network of another", args: sh("ip -o link | grep -c eth0", "--network", "container:donor"), out: "1"},
		{name: "the host's name", args: sh("hostname", "--uts", "host"), out: hostname(t)},
		{name: "the host's user namespace", args: sh("echo ran", "--userns", "host"), out: "ran"},
		{name: "another user namespace", args: sh("true", "--userns", "x"), code: 125, err: "…invalid…"},

		{name: "groups", args: sh("id -G", "--group-add", "staff", "--group-add", "77"), out: "0 50 77…"},
		{name: "unknown group", args: sh("true", "--group-add", "nobodys"), code: 125, err: "…nobodys…"},
		{name: "sysctl", args: sh("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax", "--sysctl", "net.ipv4.ip_forward=0", "--sysctl", "kernel.msgmax=9000"), out: "0\n9000"},
		{name: "sysctl of the host", args: sh("true", "--sysctl", "kernel.panic=1"), code: 125, err: "…kernel.panic…"},
		{name: "sysctl of the host's network", args: sh("true", "--network", "host", "--sysctl", "net.ipv4.ip_forward=0"), code: 125, err: "…net.ipv4.ip_forward…"},
		{name: "sysctl of an interface", args: sh("true", "--sysctl", "net.ipv4.conf.eth0.log_martians=1"), code: 125, err: "…com.docker.network.endpoint.sysctls…"},
		{name: "names", args: sh("hostname; cat /proc/sys/kernel/domainname", "-h", "box", "--domainname", "example.org"), out: "box\nexample.org"},
		{name: "link address", args: sh("cat /sys/class/net/eth0/address", "--mac-address", "02:42:00:00:00:77"), out: "02:42:00:00:00:77"},
		{name: "ulimits", args: sh("ulimit -n; ulimit -Hn; ulimit -c", "--ulimit", "nofile=64:128", "--ulimit", "core=0"), out: "64\n128\n0"},
		{name: "oom score", args: sh("cat /proc/self/oom_score_adj", "--oom-score-adj", "500"), out: "500"},
		{name: "console", args: []string{"run", "--rm", "-t", image, "tty"}, out: "/dev/pts/0"},
		{name: "same target twice", args: sh("true", "-v", "/tmp:/x", "--mount", "type=tmpfs,dst=/x"), code: 125, err: "…Duplicate mount point: /x…"},
		{name: "tmpfs and bind", args: sh("true", "-v", "/tmp:/x", "--tmpfs", "/x"), code: 125, err: "…Duplicate mount point: /x…"},
		{name: "another platform", args: []string{"create", "--pull", "never", "--platform", "linux/s390x", image}, code: 1, err: "…linux/s390x…"},
		{name: "bad platform", args: []string{"create", "--pull", "never", "--platform", "a/b/c/d", image}, code: 1, err: "…a/b/c/d…"},
		{name: "quota", args: sh("true", "--storage-opt", "size=10m"), code: 125, err: "…--storage-opt is supported only for overlay over xfs with 'pquota' mount option…"},
		{name: "user-defined network", args: sh("true", "--network", "mine"), code: 125, err: "…network mine not found…"},
		{name: "mount of a pipe", args: sh("true", "--mount", "type=npipe,src=a,dst=/b"), code: 125, err: `…invalid mount config for type "npipe": mount type unknown…`},
		{name: "mount of a cluster volume", args: sh("true", "--mount", "type=cluster,src=a,dst=/b"), code: 125, err: `…invalid mount config for type "cluster": mount type unknown…`},
	} {
		t.Run(r.name, func(t *testing.T) {
			got := e.DockerIn(r.stdin, r.args...)
			if got.Code != r.code {
				t.Errorf("docker %s: exit %d, want %d\n%s", strings.Join(r.args, " "), got.Code, r.code, got.Stderr)
			}
			compare(t, "stdout", got.Stdout, r.out)
			compare(t, "stderr", got.Stderr, r.err)
		})
	}
	e.Clean(t)
}

// cgroupParent names a cgroup that goes with the test; who asks for a parent keeps it.
func cgroupParent(t *testing.T) string {
	t.Helper()
	name := fmt.Sprintf("gantry-options-%d", os.Getpid())
	t.Cleanup(func() {
		for _, pattern := range []string{"/sys/fs/cgroup/" + name, "/sys/fs/cgroup/*/" + name} {
			dirs, _ := filepath.Glob(pattern)
			for _, dir := range dirs {
				for _, below := range []string{"donor", "deep", ""} {
					if err := os.Remove(filepath.Join(dir, below)); err != nil && !errors.Is(err, fs.ErrNotExist) {
						t.Error(err)
					}
				}
			}
		}
	})
	return "/" + name
}

func hostname(t *testing.T) string {
	t.Helper()
	h, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestOptionsInspected creates a container with what shows in inspect only.
func TestOptionsInspected(t *testing.T) {
	e := start(t)
	e.Must("create", "--name", "box", "--privileged", "--annotation", "a=b", "--stop-signal", "RTMIN+3", "--stop-timeout", "7",
		"--init", "--blkio-weight", "300", "--expose", "80", "--label", "l=1", "--security-opt", "apparmor=mine", "--health-cmd", "true", "--pids-limit", "0", image, "true")
	for format, want := range map[string]string{
		"{{.HostConfig.Annotations}}": "map[a:b]", "{{.Config.StopSignal}} {{.Config.StopTimeout}}": "RTMIN+3 7", "{{.HostConfig.Init}}": "true",
		"{{.HostConfig.SecurityOpt}} {{.AppArmorProfile}}": "[apparmor=mine label=disable] mine", "{{.Config.ExposedPorts}}": "map[80/tcp:{}]", "{{.HostConfig.PidsLimit}}": "<nil>",
		"{{.HostConfig.Runtime}}": "gantry", "{{.HostConfig.IpcMode}}": "private",
	} {
		if got := e.Must("inspect", "-f", format, "box"); got != want {
			t.Errorf("%s: %s, want %s", format, got, want)
		}
	}
	create := func(version, body string) (int, string) {
		t.Helper()
		r, err := e.HTTP().Post("http://gantry/"+version+"/containers/create", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		var answer struct {
			Message  string
			Warnings []string
		}
		if err := json.NewDecoder(r.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		return r.StatusCode, answer.Message + strings.Join(answer.Warnings, ";")
	}
	mount := func(m string) string {
		return `{"Image":"` + image + `","Cmd":["true"],"HostConfig":{"Mounts":[` + m + `]}}`
	}
	for _, tc := range []struct {
		version, body string
		status        int
		want          string
	}{
		{"v1.51", mount(`{"Type":"tmpfs","Target":"/t","BindOptions":{}}`), 400, `BindOptions must not be specified on mount type "tmpfs"`},
		{"v1.51", mount(`{"Type":"bind","Source":"/","Target":"/t","VolumeOptions":{}}`), 400, `VolumeOptions must not be specified on mount type "bind"`},
		{"v1.41", mount(`{"Type":"bind","Source":"/tmp","Target":"/t","VolumeOptions":{}}`), 201, ""},
		{"v1.44", mount(`{"Type":"volume","Source":"v","Target":"/t","VolumeOptions":{"Subpath":"x"}}`), 400, "VolumeOptions.Subpath needs API v1.45 or newer"},
		{"v1.47", mount(`{"Type":"image","Source":"` + image + `","Target":"/t"}`), 400, `Mount type "Image" needs API v1.48 or newer`},
		{"v1.48", mount(`{"Type":"image","Source":"` + image + `","Target":"/t"}`), 201, "Image mount is an experimental feature"},
		{"v1.43", mount(`{"Type":"bind","Source":"/","Target":"/t","ReadOnly":true,"BindOptions":{"ReadOnlyForceRecursive":true}}`), 400, "BindOptions.ReadOnlyForceRecursive needs API v1.44 or newer"},
		{"v1.51", mount(`{"Type":"bind","Source":"` + e.Dir + `","Target":"/t","BindOptions":{"Propagation":"private"}}`), 400, "must use either propagation mode"},
		{"v1.51", mount(`{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"Options":[["exec"]]}}`), 201, ""},
		{"v1.51", mount(`{"Type":"bind","Source":"/nothing/here","Target":"/t"}`), 400, "bind source path does not exist: /nothing/here"},
		{"v1.51", mount(`{"Type":"bind","Source":"/nothing/here","Target":"/t","BindOptions":{"CreateMountpoint":true}}`), 201, ""},
		{"v1.41", mount(`{"Type":"bind","Source":"/nothing/here","Target":"/t","BindOptions":{"CreateMountpoint":true}}`), 400, "bind source path does not exist: /nothing/here"},
		{"v1.51", mount(`{"Type":"tmpfs","Target":"/t","TmpfsOptions":{"Options":[["uid","1"]]}}`), 400, `invalid mount config for type "tmpfs": invalid option: uid`},
		{"v1.40", `{"Image":"` + image + `","HostConfig":{"Capabilities":["CHOWN"]}}`, 400, "HostConfig.Capabilities is not supported: use CapAdd and CapDrop"},
		{"v1.41", `{"Image":"` + image + `","Cmd":["true"],"HostConfig":{"KernelMemory":9000000}}`, 201, "Your kernel does not support kernel memory limit capabilities"},
		{"v1.51", `{"Image":"` + image + `","Cmd":["true"],"Volumes":{"/v":{}},"HostConfig":{"VolumeDriver":"nodriver"}}`, 404, `plugin "nodriver" not found`},
		{"v1.51", `{"Image":"` + image + `","Cmd":["true"],"NetworkingConfig":{"EndpointsConfig":{"bridge":{"MacAddress":"x"}}}}`, 400, "invalid MAC address: x"},
		{"v1.43", `{"Image":"` + image + `","MacAddress":"02:42:00:00:00:77","HostConfig":{"NetworkMode":"none"}}`, 400, "conflicting options: mac-address and the network mode"},
		{"v1.51", `{"Image":"` + image + `","HostConfig":{"Ulimits":[null]}}`, 400, "invalid ulimit: null"},
		{"v1.51", `{"Image":"` + image + `","Cmd":["true"],"Volumes":{"rel":{}}}`, 400, "invalid mount path: 'rel' mount path must be absolute"},
		{"v1.51", `{"Image":"` + image + `","Cmd":["true"],"HostConfig":{"Runtime":"kata"}}`, 400, "unknown or invalid runtime name: kata"},
		{"v1.51", `{"Image":"` + image + `","Cmd":["true"],"HostConfig":{"NetworkMode":"none"},"NetworkingConfig":{"EndpointsConfig":{"none":{"Links":["a"]}}}}`, 501, "EndpointSettings.Links is not supported by this engine yet"},
	} {
		if status, said := create(tc.version, tc.body); status != tc.status || !strings.Contains(said, tc.want) || tc.want == "" && said != "" {
			t.Errorf("%s %s: %d %s, want %d %s", tc.version, tc.body, status, said, tc.status, tc.want)
		}
	}
	if r, err := e.HTTP().Get("http://gantry/_ping"); err != nil || r.StatusCode != http.StatusOK {
		t.Errorf("ping: %v", err)
	}
	e.Clean(t)
}
