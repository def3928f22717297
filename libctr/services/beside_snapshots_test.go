package services_test

import (
	"strings"
	"testing"

	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	api "github.com/containerd/containerd/api/services/snapshots/v1"
)

func TestBesideSnapshots(t *testing.T) {
	for _, name := range []string{"overlayfs", "native"} {
		t.Run(name, func(t *testing.T) { beside(t, snapshotScript(name)) })
	}
}

func snapshotScript(snapshotter string) []step {
	const held = "containerd.io/gc.root=x" // for collectors that wake up between two steps
	prepare := func(key, parent string, kv ...string) step {
		kv = append(kv, held)
		return step{name: key + " on " + parent, method: "snapshots/Prepare", req: one(&api.PrepareSnapshotRequest{Snapshotter: snapshotter, Key: key, Parent: parent, Labels: labels(kv...)})}
	}
	view := func(key, parent string, kv ...string) step {
		kv = append(kv, held)
		return step{name: key + " on " + parent, method: "snapshots/View", req: one(&api.ViewSnapshotRequest{Snapshotter: snapshotter, Key: key, Parent: parent, Labels: labels(kv...)})}
	}
	mounts := func(key string) step {
		return step{name: key, method: "snapshots/Mounts", req: one(&api.MountsRequest{Snapshotter: snapshotter, Key: key})}
	}
	commit := func(name, key string, kv ...string) step {
		kv = append(kv, held)
		return step{name: key + " as " + name, method: "snapshots/Commit", req: one(&api.CommitSnapshotRequest{Snapshotter: snapshotter, Name: name, Key: key, Labels: labels(kv...)})}
	}
	remove := func(key string) step {
		return step{name: key, method: "snapshots/Remove", req: one(&api.RemoveSnapshotRequest{Snapshotter: snapshotter, Key: key})}
	}
	stat := func(key string) step {
		return step{name: key, method: "snapshots/Stat", req: one(&api.StatSnapshotRequest{Snapshotter: snapshotter, Key: key})}
	}
	update := func(name string, i *api.Info, paths ...string) step {
		r := &api.UpdateSnapshotRequest{Snapshotter: snapshotter, Info: i}
		if paths != nil {
			r.UpdateMask = mask(paths...)
		}
		return step{name: name, method: "snapshots/Update", req: one(r)}
	}
	list := func(filters ...string) step {
		return step{name: strings.Join(filters, " or "), method: "snapshots/List", req: one(&api.ListSnapshotsRequest{Snapshotter: snapshotter, Filters: filters})}
	}
	usage := func(key string) step {
		return step{name: key, method: "snapshots/Usage", req: one(&api.UsageRequest{Snapshotter: snapshotter, Key: key})}
	}
	cleanup := step{method: "snapshots/Cleanup", req: one(&api.CleanupRequest{Snapshotter: snapshotter})}
	ours := func(s step, want, why string) step { s.ours, s.why = want, why; return s }
	in := func(ns string, s step) step { s.in = ns; return s }
	under := func(lease string, s step) step { s.lease = lease; return s }
	resources := step{name: "leased", method: "leases/ListResources", req: one(&leasesapi.ListResourcesRequest{ID: "l"})}
	return []step{
		{name: "no snapshotter", method: "snapshots/Stat", req: one(&api.StatSnapshotRequest{Key: "x"})},
		{name: "unknown snapshotter", method: "snapshots/Stat", req: one(&api.StatSnapshotRequest{Snapshotter: "nope", Key: "x"})},
		{name: "no snapshotter", method: "snapshots/List", req: one(&api.ListSnapshotsRequest{})},
		ours(list("(("), "InvalidArgument: filters: parse error: [ >|(|< (]: expected field or quoted: invalid argument", "containerd's List gives its errors no code"),
		ours(in("-", list()), "FailedPrecondition: namespace is required: failed precondition", "the same"),
		stat("none"), mounts("none"), usage("none"), remove("none"), commit("n", "none"), update("none", &api.Info{Name: "none"}, "labels"), list(),
		stat(""), mounts(""), usage(""), remove(""), update("no name", &api.Info{}),
		in("-", stat("x")), in("-", prepare("x", "")), in("-", remove("x")), in("-", commit("y", "x")),
		prepare("large", "", "k="+long), prepare("a", "none"), view("a", "none"),
		prepare("a", "", "l=1", "containerd.io/snapshot/x=2", "e="), stat("a"), prepare("a", ""), view("a", ""), mounts("a"), prepare("on active", "a"), view("on active", "a"),
		commit("a", "a"), ours(commit("", "a"), `InvalidArgument: snapshot key "" must have 1 to 2048 bytes and no null byte: invalid argument`, "its database's error has no code"), commit("large", "a", "k="+long), stat("a"),
		commit("base", "a", "c=1", "containerd.io/snapshot/y=3", "containerd.io/snapshot.ref=base"), stat("a"), stat("base"), mounts("base"), commit("again", "base"), usage("base"),
		prepare("b", "base", "containerd.io/snapshot.ref=base"), prepare("b", "base", "containerd.io/snapshot.ref=new"), commit("base", "b"), stat("b"), view("v", "base"), mounts("v"), ours(commit("view", "v"), `FailedPrecondition: failed to commit snapshot beside/N/v: snapshot "beside/N/v" is not active: failed precondition`, "containerd's native one looks for its files first"), view("empty", ""), remove("empty"),
		remove("base"), stat("v"), usage("v"), usage("b"),
		update("labels", &api.Info{Name: "b", Labels: labels("x=1", "y=", "containerd.io/snapshot/z=1", held)}, "labels"), update("a label", &api.Info{Name: "b", Labels: labels("p.q=1", "r=2")}, "labels.p.q"),
		update("label away", &api.Info{Name: "b"}, "labels.x"), update("parent", &api.Info{Name: "b", Parent: "x"}, "parent"), update("all", &api.Info{Name: "b", Labels: labels("n=1", held)}), update("large", &api.Info{Name: "b", Labels: labels("k=" + long)}),
		stat("b"), list(), list("kind==active"), list("kind==committed"), list("kind==view", "name==b"), list("parent==base"), list("parent"), list("labels.n==1"), list(`labels."containerd.io/snapshot/y"`), list("name~=^b"), list("created"), list("kind"),
		prepare("odd key ü/..\x01", "base"), stat("odd key ü/..\x01"), remove("odd key ü/..\x01"),
		in("other", stat("base")), in("other", prepare("x", "base")), in("other", list()), in("other", prepare("b", "")), in("other", remove("b")),
		commit("top", "b"), prepare("d", "top"), remove("top"), remove("d"), remove("v"), remove("top"), remove("base"), list(), ours(cleanup, "Empty", "containerd's snapshotters of a namespace can't"),
		under("none", prepare("x", "")), stat("x"),
		{name: "lease", method: "leases/Create", req: one(&leasesapi.CreateRequest{ID: "l"})},
		under("l", prepare("x", "")), resources, under("l", commit("y", "x")), resources, under("l", prepare("z", "y")), under("l", prepare("z", "y")), under("l", prepare("w", "y", "containerd.io/snapshot.ref=y")), resources,
		under("l", remove("z")), resources, remove("y"), resources,
	}
}
