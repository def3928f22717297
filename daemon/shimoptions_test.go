package daemon

import (
	"testing"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/typeurl/v2"

	"gantry/daemon/config"
)

func TestShimOptions(t *testing.T) {
	get := func(r config.Runtime, systemd bool) any {
		t.Helper()
		a, err := shimOptions(r, systemd)
		if err != nil {
			t.Fatal(err)
		}
		if a == nil {
			return nil
		}
		v, err := typeurl.UnmarshalAny(a)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	o, ok := get(config.Runtime{Type: runcShim, Options: map[string]any{"BinaryName": "/bin/crun", "IoUid": 7.0, "SystemdCgroup": false}}, true).(*runcoptions.Options)
	if !ok || o.BinaryName != "/bin/crun" || o.IoUid != 7 || o.SystemdCgroup {
		t.Errorf("runc: %v", o)
	}
	if o, ok := get(config.Runtime{Type: builtin}, true).(*runcoptions.Options); !ok || !o.SystemdCgroup {
		t.Errorf("ours with systemd: %v", o)
	}
	k, ok := get(config.Runtime{Type: "io.containerd.kata.v2", Options: map[string]any{"ConfigPath": "/etc/kata"}}, true).(*runtimeoptions.Options)
	if !ok || k.ConfigPath != "/etc/kata" {
		t.Errorf("another: %v", k)
	}
	if v := get(config.Runtime{Type: "io.containerd.kata.v2"}, true); v != nil {
		t.Errorf("another without options: %v", v)
	}
	if _, err := shimOptions(config.Runtime{Type: runcShim, Options: map[string]any{"IoUid": "x"}}, false); err == nil {
		t.Error("a word for a number")
	}
}
