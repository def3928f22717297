package config

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/pflag"
)

func file(t *testing.T, text string) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "daemon.json")
	if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestLoad(t *testing.T) {
	for _, tc := range []struct {
		name string
		args []string
		json string
		want func(*Config) bool
	}{
		{"defaults", nil, "", func(c *Config) bool {
			return c.LiveRestore && c.Hosts[0] == DefaultHost && c.Namespace == "moby" && c.StorageDriver == "overlayfs"
		}},
		{"flags", []string{"-H", "unix:///a", "-H", "unix:///b", "--label", "x=y", "--live-restore=false", "-D", "--default-shm-size", "1m"}, "",
			func(c *Config) bool {
				return reflect.DeepEqual(c.Hosts, []string{"unix:///a", "unix:///b"}) && c.Labels[0] == "x=y" &&
					!c.LiveRestore && c.Level() == "debug" && c.ShmSize == 1<<20
			}},
		{"logs are bounded", nil, "", func(c *Config) bool { return c.LogOpts["max-size"] == "100m" && c.LogOpts["max-file"] == "5" }},
		{"logs are bounded beside other options", []string{"--log-opt", "tag=x", "--log-opt", "max-file=2"}, "", func(c *Config) bool { return c.LogOpts["max-size"] == "100m" && c.LogOpts["max-file"] == "2" }},
		{"logs of another driver", []string{"--log-driver", "local"}, "", func(c *Config) bool { return len(c.LogOpts) == 0 }},
		{"logs without bounds", []string{"--log-opt", "max-size=-1"}, "", func(c *Config) bool { return len(c.LogOpts) == 1 }},
		{"file", nil, `{"hosts":["unix:///f"],"log-opts":{"max-size":"1m"},"mtu":1400,"default-shm-size":"8m","proxies":{"no-proxy":"x"}}`,
			func(c *Config) bool {
				return c.Hosts[0] == "unix:///f" && c.LogOpts["max-size"] == "1m" && c.MTU == 1400 && c.ShmSize == 8<<20 && c.NoProxy == "x"
			}},
		{"bom and blanks", nil, "\xef\xbb\xbf  \n", func(c *Config) bool { return c.MTU == 1500 }},
		{"pools", []string{"--default-address-pool", "base=10.9.0.0/16,size=24"}, "",
			func(c *Config) bool {
				return c.AddressPools[0].Base.String() == "10.9.0.0/16" && c.AddressPools[0].Size == 24
			}},
		{"pools in the file", nil, `{"default-address-pools":[{"base":"10.9.0.0/16","size":24}]}`,
			func(c *Config) bool { return c.AddressPools[0].Size == 24 }},
		{"ulimits", []string{"--default-ulimit", "nofile=5:10"}, "", func(c *Config) bool { return c.Ulimits["nofile"].Hard == 10 }},
		{"runtime", []string{"--add-runtime", "x=/bin/x"}, "", func(c *Config) bool { return c.Runtimes["x"].Path == "/bin/x" }},
		{"default runtime by its shim's name", []string{"--default-runtime", "io.containerd.kata.v2"}, "", func(c *Config) bool { return c.DefaultRuntime == "io.containerd.kata.v2" }},
		{"devices", nil, "", func(c *Config) bool {
			return slices.Equal(c.CDISpecDirs, []string{"/etc/cdi", "/var/run/cdi"}) && c.CDI()
		}},
		{"devices elsewhere", []string{"--cdi-spec-dir", "/a", "--cdi-spec-dir", "/b"}, "", func(c *Config) bool { return slices.Equal(c.CDISpecDirs, []string{"/a", "/b"}) }},
		{"devices nowhere", nil, `{"cdi-spec-dirs":[""]}`, func(c *Config) bool { return len(c.CDISpecDirs) == 0 && c.CDI() }},
		{"devices switched off", nil, `{"features":{"cdi":false}}`, func(c *Config) bool { return len(c.CDISpecDirs) == 0 && !c.CDI() && len(c.Warnings) == 0 }},
		{"alias overlay2", []string{"-s", "overlay2"}, "", func(c *Config) bool { return c.StorageDriver == "overlayfs" }},
		{"tcp when it is meant", []string{"-H", "tcp://127.0.0.1:2375", "--tls=false"}, "", func(c *Config) bool { return !c.UseTLS() }},
		{"accepted with a warning", []string{"--userland-proxy-path=/x"}, `{"cpu-rt-period":5}`, func(c *Config) bool { return len(c.Warnings) == 2 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := Load(append(tc.args, "--config-file", file(t, tc.json)), io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if !tc.want(c) {
				t.Errorf("got %+v", c)
			}
		})
	}
}

func TestLoadErrors(t *testing.T) {
	for _, tc := range []struct {
		name, json, want string
		args             []string
	}{
		{name: "unknown key", json: `{"nope":1,"also":2}`, want: "the following directives don't match any configuration option: also, nope"},
		{name: "flag and file", args: []string{"--debug"}, json: `{"debug":false}`, want: "the following directives are specified both as a flag and in the configuration file: debug: (from flag: true, from file: false)"},
		{name: "not JSON", json: `{`, want: "unexpected end of JSON input"},
		{name: "two values", json: `{} {}`, want: "invalid character"},
		{name: "remap of three", args: []string{"--userns-remap", "a:b:c"}, want: `Invalid user/group specification in --userns-remap: "a:b:c"`},
		{name: "remap without overlays", args: []string{"--userns-remap", "default", "-s", "native"}, want: "userns-remap needs the storage driver overlayfs, not native"},
		{name: "refused flag", args: []string{"--rootless"}, want: "--rootless is not supported by this engine"},
		{name: "refused key", json: `{"cri-containerd":true}`, want: "cri-containerd is not supported by this engine"},
		{name: "unknown flag", args: []string{"--nope"}, want: "unknown flag: --nope"},
		{name: "argument", args: []string{"x"}, want: "unknown argument: x"},
		{name: "bad host", args: []string{"-H", "http://x"}, want: "invalid bind address (http://x)"},
		{name: "open tcp", args: []string{"-H", "tcp://127.0.0.1:2375"}, want: "without TLS verification is refused"},
		{name: "bad level", args: []string{"-l", "loud"}, want: "invalid logging level: loud"},
		{name: "bip without a bridge", args: []string{"-b", "none", "--bip", "10.0.0.1/8"}, want: "exclude each other"},
		{name: "no cgroup driver", args: []string{"--exec-opt", "native.cgroupdriver=none"}, want: "native.cgroupdriver option none is internally used and cannot be specified manually"},
		{name: "unknown cgroup driver", json: `{"exec-opts":["native.cgroupdriver=x"]}`, want: "native.cgroupdriver option x not supported"},
		{name: "a path where a slice is wanted", args: []string{"--exec-opt", "native.cgroupdriver=systemd", "--cgroup-parent", "/x"}, want: `cgroup-parent for systemd cgroup should be a valid slice named as "xxx.slice"`},
		{name: "version too old", json: `{"min-api-version":"1.12"}`, want: "invalid minimum API version (1.12)"},
		{name: "every problem at once", args: []string{"--mtu", "1", "-l", "loud"}, want: "invalid MTU: 1"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := Load(append(tc.args, "--config-file", file(t, tc.json)), io.Discard)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want it to contain %q", err, tc.want)
			}
		})
	}
	if _, err := Load([]string{"--config-file", "/nonexistent/daemon.json"}, io.Discard); err == nil {
		t.Error("a named file that is missing must be an error")
	}
}

func TestHelp(t *testing.T) {
	var out bytes.Buffer
	if _, err := Load([]string{"--help"}, &out); !errors.Is(err, pflag.ErrHelp) {
		t.Fatal(err)
	}
	if s := out.String(); !strings.Contains(s, "--live-restore") || strings.Contains(s, "selinux-enabled") {
		t.Error(s)
	}
}

func TestReload(t *testing.T) {
	p := file(t, `{"debug":false,"mtu":1500,"runtimes":{"a":{"path":"/a"}}}`)
	args := []string{"--config-file", p}
	c, err := Load(args, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(`{"debug":true,"mtu":1400,"runtimes":{"a":{"path":"/b"}},"labels":["k=v"]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	next, changed, ignored, err := c.Reload(args)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(changed)
	if want := []string{"debug", "labels", "runtimes"}; !slices.Equal(changed, want) {
		t.Errorf("changed %v, want %v", changed, want)
	}
	if !slices.Equal(ignored, []string{"mtu"}) || next.MTU != 1500 || !next.Debug || next.Runtimes["a"].Path != "/b" {
		t.Errorf("ignored %v, next %+v", ignored, next)
	}
	if err := os.WriteFile(p, []byte(`{"debug":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, _, err := c.Reload(args); err == nil || c.Debug {
		t.Error("a bad file must be refused and change nothing")
	}
}

// TestDefaultRuntimeExists: the built-in names are there without being configured.
func TestDefaultRuntimeExists(t *testing.T) {
	for name, ok := range map[string]bool{"gantry": true, "runc": true, "mine": true, "other": false} {
		_, err := Load([]string{"--config-file", "/dev/null", "--add-runtime", "mine=/bin/mine", "--default-runtime", name}, io.Discard)
		if (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestTLS: naming tlsverify turns TLS on, TLS verifies clients unless it is told not to.
func TestTLS(t *testing.T) {
	certs := []string{"--tlscert", "c", "--tlskey", "k", "--tlscacert", "ca"}
	for _, tc := range []struct {
		args          string
		certs         []string
		ok            bool
		tls, verifies bool
	}{
		{"", certs, false, false, false},
		{"--tls", certs, true, true, true},
		{"--tls=false", nil, true, false, false},
		{"--tlsverify", certs, true, true, true},
		{"--tlsverify=false", certs[:4], true, true, false},
		{"--tls --tlsverify=false", certs[:4], true, true, false},
		{"--tls", certs[:4], false, true, true},
		{"--tlsverify=false", nil, false, true, false},
	} {
		args := append([]string{"--config-file", "/dev/null", "-H", "tcp://127.0.0.1:1"}, strings.Fields(tc.args)...)
		c, err := Load(append(args, tc.certs...), io.Discard)
		if (err == nil) != tc.ok || c.UseTLS() != tc.tls || c.TLSVerify.Value != tc.verifies {
			t.Errorf("%s %v: tls %t, verify %t, %v", tc.args, tc.certs, c.UseTLS(), c.TLSVerify.Value, err)
		}
	}
}

func TestNestedAndLogOptions(t *testing.T) {
	for text, want := range map[string]string{
		`{"proxies":{"http-proxy":"http://x"}}`:      "",
		`{"proxies":{"debug":true}}`:                 "don't match any configuration option: proxies.debug",
		`{"log-opts":{"max-size":"10m"}}`:            "",
		`{"log-opts":{"nope":"x"}}`:                  "unknown log opt 'nope'",
		`{"log-driver":"none","log-opts":{"a":"b"}}`: "",
	} {
		path := filepath.Join(t.TempDir(), "daemon.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Load([]string{"--config-file", path}, io.Discard)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
