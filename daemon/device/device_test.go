package device

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	containertypes "github.com/docker/docker/api/types/container"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

const spec = `{"cdiVersion":"0.6.0","kind":"vendor.com/thing",
"containerEdits":{"env":["ALL=1"]},
"devices":[{"name":"one","containerEdits":{"env":["ONE=1"],
 "deviceNodes":[{"path":"/dev/thing","hostPath":"/dev/null","type":"c","major":1,"minor":3}],
 "mounts":[{"hostPath":"/lib","containerPath":"/opt/thing","options":["ro","bind"]}],
 "hooks":[{"hookName":"createContainer","path":"/bin/true","args":["true"]}]}}]}`

func drivers(t *testing.T, programs ...string) *Drivers {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "v.json"), []byte(spec), 0o644); err != nil {
		t.Fatal(err)
	}
	d := New([]string{dir, filepath.Join(dir, "none")}, true)
	d.lookPath = func(p string) (string, error) {
		if slices.Contains(programs, p) {
			return "/usr/bin/" + p, nil
		}
		return "", errors.New("none")
	}
	return d
}

type requests = []containertypes.DeviceRequest

func TestEdit(t *testing.T) {
	gpu := [][]string{{"gpu"}}
	for _, tc := range []struct {
		name     string
		programs []string
		ask      containertypes.DeviceRequest
		env, err string
	}{
		{name: "no driver", ask: containertypes.DeviceRequest{Count: -1, Capabilities: gpu},
			err: `could not select device driver "" with capabilities: [[gpu]]`},
		{name: "unknown driver", programs: []string{"nvidia-container-runtime-hook"}, ask: containertypes.DeviceRequest{Driver: "x", Capabilities: gpu},
			err: `could not select device driver "x" with capabilities: [[gpu]]`},
		{name: "all", programs: []string{"nvidia-container-runtime-hook"}, ask: containertypes.DeviceRequest{Count: -1, Capabilities: gpu},
			env: "NVIDIA_VISIBLE_DEVICES=all"},
		{name: "some", programs: []string{"nvidia-container-runtime-hook"}, ask: containertypes.DeviceRequest{Count: 3, Capabilities: [][]string{{"tpu"}, {"gpu", "utility", "compute"}}},
			env: "NVIDIA_VISIBLE_DEVICES=0,1,2 NVIDIA_DRIVER_CAPABILITIES=utility,compute"},
		{name: "none of them", programs: []string{"nvidia-container-runtime-hook"}, ask: containertypes.DeviceRequest{Capabilities: gpu},
			env: "NVIDIA_VISIBLE_DEVICES=void"},
		{name: "by id", programs: []string{"nvidia-container-runtime-hook"}, ask: containertypes.DeviceRequest{Driver: "nvidia", DeviceIDs: []string{"a", "b"}, Capabilities: gpu},
			env: "NVIDIA_VISIBLE_DEVICES=a,b"},
		{name: "both", programs: []string{"nvidia-container-runtime-hook"}, ask: containertypes.DeviceRequest{Count: 1, DeviceIDs: []string{"a"}, Capabilities: gpu},
			err: "cannot set both Count and DeviceIDs on device request"},
		{name: "amd", programs: []string{"amd-container-runtime"}, ask: containertypes.DeviceRequest{Count: -1, Capabilities: gpu},
			env: "AMD_VISIBLE_DEVICES=all"},
		{name: "no capabilities", programs: []string{"amd-container-runtime"}, ask: containertypes.DeviceRequest{Count: -1},
			err: `could not select device driver "" with capabilities: []`},
		{name: "cdi", ask: containertypes.DeviceRequest{Driver: "cdi", DeviceIDs: []string{"vendor.com/thing=one"}},
			env: "ALL=1 ONE=1"},
		{name: "cdi of nothing", ask: containertypes.DeviceRequest{Driver: "cdi"}},
		{name: "cdi unknown", ask: containertypes.DeviceRequest{Driver: "cdi", DeviceIDs: []string{"vendor.com/thing=two"}},
			err: "CDI device injection failed: unresolvable CDI devices vendor.com/thing=two"},
		{name: "cdi with a count", ask: containertypes.DeviceRequest{Driver: "cdi", Count: 1, DeviceIDs: []string{"vendor.com/thing=one"}},
			err: "unexpected count in CDI device request"},
		{name: "cdi with options", ask: containertypes.DeviceRequest{Driver: "cdi", Options: map[string]string{"a": "b"}},
			err: "unexpected options in CDI device request"},
	} {
		s := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{Resources: &specs.LinuxResources{}}}
		err := drivers(t, tc.programs...).Edit(s, requests{tc.ask})
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != tc.err || tc.err == "" && strings.Join(s.Process.Env, " ") != tc.env {
			t.Errorf("%s: %q, %v", tc.name, got, s.Process.Env)
		}
	}
}

func TestEdits(t *testing.T) {
	s := &specs.Spec{Process: &specs.Process{}, Linux: &specs.Linux{Resources: &specs.LinuxResources{}}}
	if err := drivers(t).Edit(s, requests{{Driver: "cdi", DeviceIDs: []string{"vendor.com/thing=one"}}}); err != nil {
		t.Fatal(err)
	}
	if len(s.Linux.Devices) != 1 || s.Linux.Devices[0].Path != "/dev/thing" || len(s.Linux.Resources.Devices) != 1 {
		t.Errorf("devices %+v, rules %+v", s.Linux.Devices, s.Linux.Resources.Devices)
	}
	if len(s.Mounts) != 1 || s.Mounts[0].Destination != "/opt/thing" || len(s.Hooks.CreateContainer) != 1 {
		t.Errorf("mounts %+v, hooks %+v", s.Mounts, s.Hooks)
	}
	s = &specs.Spec{Process: &specs.Process{}}
	d := drivers(t, "nvidia-container-runtime-hook")
	if err := d.Edit(s, requests{{Count: -1, Capabilities: [][]string{{"gpu"}}}}); err != nil {
		t.Fatal(err)
	}
	if h := s.Hooks.Prestart; len(h) != 1 || h[0].Path != "/usr/bin/nvidia-container-runtime-hook" || //nolint:staticcheck // as the program wants it
		!slices.Equal(h[0].Args, []string{"nvidia-container-runtime-hook", "prestart"}) {
		t.Errorf("hooks %+v", h)
	}
}

func TestList(t *testing.T) {
	d := drivers(t)
	found, warnings := d.List()
	if len(found) != 1 || found[0].ID != "vendor.com/thing=one" || found[0].Source != "cdi" || len(warnings) != 0 {
		t.Errorf("found %+v, %q", found, warnings)
	}
	if _, warnings := New(nil, true).List(); len(warnings) != 1 || warnings[0] != "CDI cache initialization failed: no CDI specification directories specified" {
		t.Errorf("warnings %q", warnings)
	}
	if found, warnings := New(nil, false).List(); found != nil || warnings != nil {
		t.Errorf("off: %v %v", found, warnings)
	}
	err := New(nil, false).Edit(&specs.Spec{}, requests{{Driver: "cdi"}})
	if err == nil || err.Error() != `could not select device driver "cdi" with capabilities: []` {
		t.Error(err)
	}
	bad := t.TempDir()
	if err := os.WriteFile(filepath.Join(bad, "x.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, warnings := New([]string{bad}, true).List(); len(warnings) != 1 || !strings.HasPrefix(warnings[0], "CDI: Error associated with spec file "+bad+"/x.json: ") {
		t.Errorf("warnings %q", warnings)
	}
}
