package services_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	contentapi "github.com/containerd/containerd/api/services/content/v1"
	eventsapi "github.com/containerd/containerd/api/services/events/v1"
	versionapi "github.com/containerd/containerd/api/services/version/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gantry/internal/testutil/coretest"
)

// step is one call of a script that is played to a real containerd and to our core;
// their answers must be the same: messages, code, text and events.
type step struct {
	name   string
	method string // noun/Method, as in containers/Get
	// req is the message; several are sent one after the other on one stream, each after
	// the answer to that before it.
	req []proto.Message
	// in and lease are the headers; the namespace is "beside" when in is empty, and none
	// at all when it is "-".
	in, lease string

	// want is our answer where containerd 1.6 gives another one. It is then that of 2.x,
	// with which it is compared when GANTRY_CONTAINERD names such a one.
	want string
	// ours is our answer where we differ from every containerd, and why says the reason.
	ours, why string
	// code says that the words of an error are not compared, and classed that an error may
	// have a code where theirs is unknown.
	code, classed bool
	loose         string // why there may be any other answer

	// later lets the call go on under this name; its answer is that of the step that awaits
	// the name.
	later, await string
}

func one(m proto.Message) []proto.Message { return []proto.Message{m} }

// side is one of the two cores.
type side struct {
	conn  *grpc.ClientConn
	old   bool                   // a containerd of before 2.0
	under map[string]chan string // answers to come, by name

	settle time.Duration // no event for as long as that is the end of them
}

func dialSide(t *testing.T, address string) *side {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	s := &side{conn: conn, under: map[string]chan string{}}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	v, err := versionapi.NewVersionClient(conn).Version(ctx, &emptypb.Empty{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	s.old = strings.HasPrefix(strings.TrimPrefix(v.GetVersion(), "v"), "1.")
	return s
}

// beside plays a script to both sides, from a fresh start of each.
func beside(t *testing.T, script []step) {
	t.Helper()
	sides(t, dialSide(t, coretest.ServeContainerd(t)), dialSide(t, coretest.Serve(t)), script, script)
}

// sides is beside of two scripts that differ in what each side must have of its own. late are
// topics of which new containerds' shims may lose some.
func sides(t *testing.T, theirs, ours *side, theirScript, script []step, late ...string) {
	t.Helper()
	theirEvents, ourEvents := theirs.subscribe(t), ours.subscribe(t)
	for n, s := range script {
		got, ref := ours.play(t, s), theirs.play(t, theirScript[n])
		raw := got
		got, ref = theirs.reworded(got), theirs.reworded(ref)
		if strings.HasPrefix(ref, "Unavailable: ") {
			t.Fatalf("%s %s: the other side is gone: %s", s.method, s.name, ref)
		}
		if os.Getenv("GANTRY_BESIDE") != "" {
			t.Logf("%d %s: %s\n%s", n, s.method, s.name, ref)
		}
		switch {
		case s.ours != "":
			check(t, s, "ours", raw, s.ours)
			if ref == s.ours {
				t.Logf("%s %s: no difference to this one", s.method, s.name)
			}
		case s.loose != "":
		case s.code:
			got, _, _ = strings.Cut(got, ": ")
			ref, _, _ = strings.Cut(ref, ": ")
			if s.classed && ref == codes.Unknown.String() && isCode(got) {
				continue
			}
			check(t, s, "ours", got, ref)
		case s.want != "":
			check(t, s, "ours", raw, s.want)
			if !theirs.old {
				check(t, s, "theirs", ref, s.want)
			}
		default:
			check(t, s, "ours", got, ref)
		}
	}
	ref, got := theirs.comparable(theirEvents(), late...), theirs.comparable(ourEvents(), late...)
	if !slices.Equal(got, ref) {
		t.Errorf("events\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(ref, "\n  "))
	}
}

// rewordings make one of what containerd's versions, or its snapshotters, say in
// different words.
var rewordings = []struct {
	pattern *regexp.Regexp
	with    string
	old     bool // only beside one of before 2.0
}{
	{regexp.MustCompile(`failed to get snapshot mount: `), "failed to get active mount: ", false},
	{regexp.MustCompile(`failed to commit snapshot beside/N/\S*: `), "failed to commit snapshot: ", false},
	{regexp.MustCompile(`label key and value .*`), "label too large", true},
	{regexp.MustCompile(`Target\.`), "target.", true},
	{regexp.MustCompile(`(?s)^(Unknown: .*): unknown$`), "$1", true},
	{regexp.MustCompile("`io.containerd.runc.v1`"), "`io.containerd.runc.v2`", true},
	{regexp.MustCompile(`^UpdateNamespaceResponse namespace:\{\}$`), "UpdateNamespaceResponse", true},
	{regexp.MustCompile(`updated_at:\{(seconds:1)?\}`), "updated_at:{}", true}, // not set in lists of blobs
}

func (s *side) reworded(answer string) string {
	for _, r := range rewordings {
		if !r.old || s.old {
			answer = r.pattern.ReplaceAllString(answer, r.with)
		}
	}
	return answer
}

var (
	ofSnapshotter = regexp.MustCompile(` snapshotter:"\w*"`)
	ofNamespace   = regexp.MustCompile(`namespace:"\w*" (topic:"/namespaces/)`)
)

// comparable leaves out of both sides' events what an old containerd lacks: those of
// blobs that are written, snapshotters, and the namespace that an event is about.
func (s *side) comparable(events []string, late ...string) []string {
	if !s.old {
		return slices.DeleteFunc(events, func(e string) bool {
			return slices.ContainsFunc(late, func(topic string) bool { return strings.Contains(e, `topic:"`+topic+`"`) })
		})
	}
	var out []string
	for _, e := range events {
		if !strings.Contains(e, `topic:"/content/create"`) {
			e = ofSnapshotter.ReplaceAllString(e, "")
			out = append(out, ofNamespace.ReplaceAllString(e, "$1"))
		}
	}
	return out
}

// isCode says whether the answer is an error's code.
func isCode(answer string) bool {
	for c := codes.Canceled; c <= codes.Unauthenticated; c++ {
		if answer == c.String() {
			return true
		}
	}
	return false
}

func check(t *testing.T, s step, whose, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s %s: %s\n  %s\nwant\n  %s", s.method, s.name, whose, got, want)
	}
}

// play makes the call and writes down the answer.
func (s *side) play(t *testing.T, st step) string {
	t.Helper()
	if st.await != "" {
		return <-s.under[st.await]
	}
	m := findMethod(t, st.method)
	if st.later == "" {
		return s.answer(t, st, m)
	}
	under := make(chan string, 1)
	s.under[st.later] = under
	go func() { under <- s.answer(t, st, m) }() // ends with the call, which has a deadline
	return ""
}

func (s *side) answer(t *testing.T, st step, m protoreflect.MethodDescriptor) string {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	switch st.in {
	case "-":
	case "":
		ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", "beside")
	default:
		ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", st.in)
	}
	if st.lease != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "containerd-lease", st.lease)
	}
	answers, err := s.call(ctx, m, st.req)
	out := make([]string, 0, len(answers)+1)
	for n, a := range answers {
		text := written(a)
		if n > 0 && n >= len(st.req) && text == out[n-1] {
			continue // containerd ends Content.Write with its last answer once more
		}
		out = append(out, text)
	}
	if err != nil {
		out = append(out, writtenError(err))
	}
	return strings.Join(out, "\n  ")
}

func findMethod(t *testing.T, name string) protoreflect.MethodDescriptor {
	t.Helper()
	noun, method, _ := strings.Cut(name, "/")
	service := protoreflect.FullName("containerd.services." + noun + ".v1." + strings.ToUpper(noun[:1]) + noun[1:])
	d, err := protoregistry.GlobalFiles.FindDescriptorByName(service)
	if err != nil {
		t.Fatal(err)
	}
	m := d.(protoreflect.ServiceDescriptor).Methods().ByName(protoreflect.Name(method))
	if m == nil {
		t.Fatalf("no method %s", name)
	}
	return m
}

func (s *side) call(ctx context.Context, m protoreflect.MethodDescriptor, reqs []proto.Message) (answers []proto.Message, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	typ, err := protoregistry.GlobalTypes.FindMessageByName(m.Output().FullName())
	if err != nil {
		return nil, err
	}
	path := "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
	if !m.IsStreamingServer() && !m.IsStreamingClient() {
		answer := typ.New().Interface()
		if err := s.conn.Invoke(ctx, path, reqs[0], answer); err != nil {
			return nil, err
		}
		return []proto.Message{answer}, nil
	}
	stream, err := s.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: m.IsStreamingClient()}, path)
	if err != nil {
		return nil, err
	}
	for n, req := range reqs {
		if err := stream.SendMsg(req); err != nil && !errors.Is(err, io.EOF) {
			return answers, err
		}
		if n == len(reqs)-1 {
			break
		}
		answer := typ.New().Interface()
		if err := stream.RecvMsg(answer); err != nil {
			return answers, err
		}
		answers = append(answers, answer)
	}
	if err := stream.CloseSend(); err != nil {
		return answers, err
	}
	for {
		answer := typ.New().Interface()
		switch err := stream.RecvMsg(answer); {
		case errors.Is(err, io.EOF):
			return answers, nil
		case err != nil:
			return answers, err
		}
		answers = append(answers, answer)
	}
}

// lenient is the namespace for steps that only one side takes; its events do not count.
const lenient = "lenient"

// subscribe keeps the events of the script's namespaces until quiet is called.
func (s *side) subscribe(t *testing.T) (quiet func() []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	client := eventsapi.NewEventsClient(s.conn)
	stream, err := client.Subscribe(ctx, &eventsapi.SubscribeRequest{})
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan *types.Envelope, 1024)
	go func() { // ends with ctx
		defer close(heard)
		for {
			e, err := stream.Recv()
			if err != nil {
				return
			}
			heard <- e
		}
	}()
	mark := func(topic string) {
		_, err := client.Publish(metadata.AppendToOutgoingContext(ctx, "containerd-namespace", "mark"),
			&eventsapi.PublishRequest{Topic: topic, Event: protobuf(t, &emptypb.Empty{})})
		if err != nil {
			t.Fatal(err)
		}
	}
	for stands := false; !stands; { // old ones do not say when
		mark("/mark/begin")
		select {
		case <-heard:
			stands = true
		case <-time.After(10 * time.Millisecond):
		}
	}
	return func() []string {
		for n := -1; s.settle > 0 && n != len(heard); { // those of shims are on their way
			n = len(heard)
			time.Sleep(s.settle)
		}
		mark("/mark/end")
		var out []string
		for e := range heard {
			switch {
			case e.GetTopic() == "/mark/begin", e.GetNamespace() == lenient:
			case e.GetTopic() == "/mark/end":
				return out
			default:
				out = append(out, written(e))
			}
		}
		t.Fatal("events ended")
		return nil
	}
}

func protobuf(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	a.TypeUrl = string(m.ProtoReflect().Descriptor().FullName())
	return a
}

// paths are what differs between two cores by nature.
var (
	paths  = regexp.MustCompile(`/tmp/core\d+/\S*?/snapshots/\w+(/fs\b)?`)
	dirs   = regexp.MustCompile(`/tmp/core\d+`)
	keys   = regexp.MustCompile(`\bbeside/[^/ ]+/`) // a backend's
	spaces = regexp.MustCompile(`\s+`)              // prototext puts them at random
	pids   = regexp.MustCompile(`\bpid:\d+`)
	shims  = regexp.MustCompile(`"[^"]*containerd-shim-runc-v2"|"io.containerd.gantry.v2"`)
	cgroup = regexp.MustCompile(`/beside-\d+-\w+`)
)

func written(m proto.Message) string {
	m = proto.Clone(m)
	switch m := m.(type) {
	case *contentapi.WriteContentResponse:
		if m.GetAction() != contentapi.WriteAction_STAT { // containerd sets these of a STAT only, or leaves those of the last
			m.StartedAt, m.UpdatedAt, m.Total = nil, nil, 0
		}
	case interface{ GetMounts() []*types.Mount }:
		for _, one := range m.GetMounts() {
			slices.Sort(one.Options)
		}
	}
	still(m.ProtoReflect())
	text := spaces.ReplaceAllString(prototext.MarshalOptions{}.Format(m), " ")
	return strings.TrimSpace(string(m.ProtoReflect().Descriptor().Name()) + " " + masked(strings.TrimSpace(text)))
}

func masked(s string) string {
	s = strings.ReplaceAll(s, ": invalid argument: invalid argument", ": invalid argument")
	s = keys.ReplaceAllString(s, "beside/N/")
	s = shims.ReplaceAllString(s, `"SHIM"`)
	s = cgroup.ReplaceAllString(s, "/CGROUP")
	s = pids.ReplaceAllString(s, "pid:N")
	return dirs.ReplaceAllString(paths.ReplaceAllString(s, "DIR"), "ROOT")
}

func writtenError(err error) string {
	st, ok := status.FromError(err)
	if !ok {
		return "no status: " + err.Error()
	}
	text := fmt.Sprintf("%v: %s", st.Code(), masked(st.Message()))
	for _, d := range st.Details() {
		text += fmt.Sprintf(" [%v]", d)
	}
	return text
}

// still makes every time that is set the same, in an Any too, and figures of tasks nothing.
func still(m protoreflect.Message) {
	if a, ok := m.Interface().(*anypb.Any); ok {
		if strings.HasSuffix(a.GetTypeUrl(), ".Metrics") {
			a.Value = nil
		} else if inner, err := a.UnmarshalNew(); err == nil {
			still(inner.ProtoReflect())
			a.Value, _ = proto.Marshal(inner)
		}
		return
	}
	if ts, ok := m.Interface().(*timestamppb.Timestamp); ok {
		set := ts.GetSeconds() > 0
		ts.Seconds, ts.Nanos = 0, 0
		if set {
			ts.Seconds = 1
		}
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap() && fd.MapValue().Message() != nil:
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool { still(v.Message()); return true })
		case fd.IsList() && fd.Message() != nil:
			for i := range v.List().Len() {
				still(v.List().Get(i).Message())
			}
		case fd.Message() != nil && !fd.IsMap():
			still(v.Message())
		}
		return true
	})
}

// labels makes a map of "k=v" texts.
func labels(kv ...string) map[string]string {
	out := make(map[string]string, len(kv))
	for _, s := range kv {
		k, v, _ := strings.Cut(s, "=")
		out[k] = v
	}
	return out
}
