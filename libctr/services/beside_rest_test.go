package services_test

import (
	"strings"
	"testing"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	diffapi "github.com/containerd/containerd/api/services/diff/v1"
	eventsapi "github.com/containerd/containerd/api/services/events/v1"
	introspectionapi "github.com/containerd/containerd/api/services/introspection/v1"
	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

func TestBesideEvents(t *testing.T) {
	ev := protobuf(t, &emptypb.Empty{})
	publish := func(topic string) step {
		return step{name: topic, method: "events/Publish", req: one(&eventsapi.PublishRequest{Topic: topic, Event: ev})}
	}
	forward := func(name string, e *types.Envelope) step {
		return step{name: name, method: "events/Forward", req: one(&eventsapi.ForwardRequest{Envelope: e})}
	}
	in := func(ns string, s step) step { s.in = ns; return s }
	ours := func(s step, want, why string) step { s.ours, s.why = want, why; return s }
	const coded = "containerd gives no code"
	now := timestamppb.Now()
	beside(t, []step{
		publish("/a/b"), publish(""), publish("/"), publish("a"), publish("/a//b"), publish("/a/b/"), publish("/a b"), publish("/" + strings.Repeat("x", 77)), publish("/a-b.c_d/9"),
		in("-", publish("/a/b")), ours(in("a b", publish("/a/b")), `InvalidArgument: namespace validation: identifier "a b" must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$: invalid argument`, "no call comes past that"), in("-", publish("")), in("other", publish("/a")),
		forward("good", &types.Envelope{Timestamp: now, Namespace: "fwd", Topic: "/x/y", Event: ev}),
		forward("without header", &types.Envelope{Timestamp: now, Namespace: "fwd", Topic: "/x/y", Event: ev}),
		ours(forward("no time", &types.Envelope{Namespace: lenient, Topic: "/x", Event: ev}), "InvalidArgument: timestamp must be set on forwarded event: invalid argument", "containerd 2.x takes 1970"),
		forward("no namespace", &types.Envelope{Timestamp: now, Topic: "/x/y", Event: ev}), forward("bad namespace", &types.Envelope{Timestamp: now, Namespace: "a/b", Topic: "/x/y", Event: ev}),
		forward("no topic", &types.Envelope{Timestamp: now, Namespace: "fwd", Event: ev}), forward("bad topic", &types.Envelope{Timestamp: now, Namespace: "fwd", Topic: "x", Event: ev}),
		ours(step{name: "bad filter", method: "events/Subscribe", req: one(&eventsapi.SubscribeRequest{Filters: []string{"(("}})},
			"InvalidArgument: subscription error: failed parsing subscription filters: filters: parse error: [ >|(|< (]: expected field or quoted: invalid argument", coded),
	})
}

func TestBesideIntrospection(t *testing.T) {
	plugins := func(filters ...string) step {
		return step{name: strings.Join(filters, " or "), method: "introspection/Plugins", req: one(&introspectionapi.PluginsRequest{Filters: filters})}
	}
	in := func(ns string, s step) step { s.in = ns; return s }
	beside(t, []step{
		{name: "bad filter", method: "introspection/Plugins", req: one(&introspectionapi.PluginsRequest{Filters: []string{"(("}}), code: true},
		plugins("id==nope"), in("-", plugins("id==nope")), plugins("platforms"), plugins("capabilities"), plugins("type==io.containerd.snapshotter.v1,id==nope"),
		{name: "unknown", method: "introspection/PluginInfo", req: one(&introspectionapi.PluginInfoRequest{Type: "t", ID: "i"}), want: "NotFound: plugin t.i not found: not found"},
	})
}

func TestBesideDiff(t *testing.T) {
	blob := &types.Descriptor{MediaType: "application/vnd.oci.image.layer.v1.tar", Digest: "sha256:" + strings.Repeat("a", 64), Size: 3}
	apply := func(name string, r *diffapi.ApplyRequest) step {
		return step{name: name, method: "diff/Apply", req: one(r)}
	}
	compare := func(name string, r *diffapi.DiffRequest) step {
		return step{name: name, method: "diff/Diff", req: one(r)}
	}
	in := func(ns string, s step) step { s.in = ns; return s }
	ours := func(s step, want, why string) step { s.ours, s.why = want, why; return s }
	worded := func(s step) step { s.code = true; return s }
	beside(t, []step{
		worded(apply("missing blob", &diffapi.ApplyRequest{Diff: blob})), ours(apply("unknown media type", &diffapi.ApplyRequest{Diff: &types.Descriptor{MediaType: "x/y", Digest: blob.Digest, Size: 3}}),
			"Unimplemented: failed to get stream processor for x/y: no processor for media-type", "told by itself"),
		worded(in("-", apply("no namespace", &diffapi.ApplyRequest{Diff: blob}))),
		worded(compare("unknown media type", &diffapi.DiffRequest{MediaType: "x/y"})),
		worded(in("-", compare("no namespace", &diffapi.DiffRequest{}))),
	})
}

func TestBesideTasks(t *testing.T) {
	in := func(ns string, s step) step { s.in = ns; return s }
	script := []step{
		{name: "spec", method: "containers/Create", req: one(&containersapi.CreateContainerRequest{Container: box("c")})},
		{name: "list", method: "tasks/List", req: one(&tasksapi.ListTasksRequest{})}, in("-", step{name: "list", method: "tasks/List", req: one(&tasksapi.ListTasksRequest{})}),
		{name: "no container", method: "tasks/Create", req: one(&tasksapi.CreateTaskRequest{ContainerID: "none"})},
		{name: "spec that is none", method: "tasks/Create", req: one(&tasksapi.CreateTaskRequest{ContainerID: "c"}),
			ours: "InvalidArgument: spec of container c: invalid character 's' looking for beginning of value", why: "containerd gives no code"},
		{name: "bad filter", method: "tasks/Metrics", req: one(&tasksapi.MetricsRequest{Filters: []string{"(("}}),
			ours: "InvalidArgument: filters: parse error: [ >|(|< (]: expected field or quoted: invalid argument", why: "the same"},
		{name: "none", method: "tasks/Metrics", req: one(&tasksapi.MetricsRequest{Filters: []string{"id==x"}})},
		{name: "no exec id", method: "tasks/Exec", req: one(&tasksapi.ExecProcessRequest{ContainerID: "c"})},
		{name: "no exec id", method: "tasks/DeleteProcess", req: one(&tasksapi.DeleteProcessRequest{ContainerID: "c"}),
			ours: "InvalidArgument: exec id cannot be empty", why: "there can't be one"},
	}
	for _, id := range []string{"none", "c", ""} {
		script = append(script,
			step{name: id, method: "tasks/Start", req: one(&tasksapi.StartRequest{ContainerID: id})},
			step{name: id, method: "tasks/Get", req: one(&tasksapi.GetRequest{ContainerID: id})},
			step{name: id, method: "tasks/Delete", req: one(&tasksapi.DeleteTaskRequest{ContainerID: id})},
			step{name: id, method: "tasks/DeleteProcess", req: one(&tasksapi.DeleteProcessRequest{ContainerID: id, ExecID: "e"})},
			step{name: id, method: "tasks/Kill", req: one(&tasksapi.KillRequest{ContainerID: id, Signal: 9})},
			step{name: id, method: "tasks/Exec", req: one(&tasksapi.ExecProcessRequest{ContainerID: id, ExecID: "e"})},
			step{name: id, method: "tasks/ResizePty", req: one(&tasksapi.ResizePtyRequest{ContainerID: id})},
			step{name: id, method: "tasks/CloseIO", req: one(&tasksapi.CloseIORequest{ContainerID: id})},
			step{name: id, method: "tasks/Pause", req: one(&tasksapi.PauseTaskRequest{ContainerID: id})},
			step{name: id, method: "tasks/Resume", req: one(&tasksapi.ResumeTaskRequest{ContainerID: id})},
			step{name: id, method: "tasks/ListPids", req: one(&tasksapi.ListPidsRequest{ContainerID: id})},
			step{name: id, method: "tasks/Checkpoint", req: one(&tasksapi.CheckpointTaskRequest{ContainerID: id})},
			step{name: id, method: "tasks/Update", req: one(&tasksapi.UpdateTaskRequest{ContainerID: id})},
			step{name: id, method: "tasks/Wait", req: one(&tasksapi.WaitRequest{ContainerID: id})},
		)
	}
	beside(t, script)
}
