package services_test

import (
	"slices"
	"testing"

	introspectionapi "github.com/containerd/containerd/api/services/introspection/v1"

	"gantry/api/errdefs"
	"gantry/internal/testutil/coretest"
	"gantry/libctr/client"
)

// TestIntrospection holds our core and a real containerd to the same.
func TestIntrospection(t *testing.T) {
	for name, c := range map[string]*client.Client{"ours": coretest.Start(t), "reference": coretest.Containerd(t)} {
		t.Run(name, func(t *testing.T) { introspection(t, c.Introspection()) })
	}
}

func introspection(t *testing.T, i *client.Introspection) {
	all, err := i.Plugins(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ids := func(list []*introspectionapi.Plugin) (out []string) {
		for _, p := range list {
			out = append(out, p.GetType()+"."+p.GetID())
		}
		return out
	}
	for _, want := range []string{"io.containerd.metadata.v1.bolt", "io.containerd.snapshotter.v1.overlayfs", "io.containerd.snapshotter.v1.native", "io.containerd.grpc.v1.tasks", "io.containerd.gc.v1.scheduler"} {
		if !slices.Contains(ids(all), want) {
			t.Errorf("no plugin %s", want)
		}
	}
	if found := slices.Compact(slices.Sorted(slices.Values(ids(all)))); len(found) != len(all) {
		t.Errorf("%d plugins, %d names", len(all), len(found))
	}
	for filter, want := range map[string][]string{
		"id==overlayfs": {"io.containerd.snapshotter.v1.overlayfs"}, "type==io.containerd.metadata.v1": {"io.containerd.metadata.v1.bolt"}, "id==nope": nil,
	} {
		if got, err := i.Plugins(t.Context(), filter); err != nil || !slices.Equal(ids(got), want) {
			t.Errorf("%s: %v, %v; want %v", filter, ids(got), err, want)
		}
	}
	if _, err := i.Plugins(t.Context(), "(("); err == nil {
		t.Error("a bad filter is taken")
	}
	one, err := i.Server(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again, err := i.Server(t.Context())
	if err != nil || one.GetUUID() == "" || one.GetUUID() != again.GetUUID() {
		t.Errorf("uuids %q and %q, %v", one.GetUUID(), again.GetUUID(), err)
	}
	version, _, err := i.Version(t.Context())
	if err != nil || version == "" {
		t.Errorf("version %q, %v", version, err)
	}
	_, err = i.PluginInfo(t.Context(), &introspectionapi.PluginInfoRequest{Type: "none", ID: "none"})
	if !errdefs.IsNotFound(err) && !errdefs.IsNotImplemented(err) { // containerd 1.6 has none
		t.Errorf("info of no plugin: %v", err)
	}
}
