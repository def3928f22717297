package services_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	versionapi "github.com/containerd/containerd/api/services/version/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/known/emptypb"

	"gantry/internal/testutil/coretest"
)

// TestHostile calls every method that there is with messages that nobody would send: the
// empty one and random ones. None may end in a panic, nor hold up the core.
func TestHostile(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	s := dialSide(t, coretest.Serve(t))
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	m := mess{rand.New(rand.NewPCG(seed, 0))}
	methods := everyMethod()
	if len(methods) < 60 {
		t.Fatalf("only %d methods are known", len(methods))
	}
	for round := range rounds {
		for _, method := range methods {
			req := newMessage(t, method.Input())
			if round > 0 {
				m.fill(req.ProtoReflect(), 0)
			}
			err := s.shout(t, method, req, round)
			if st := status.Convert(err); st.Code() == codes.Internal && strings.Contains(st.Message(), "internal error in") {
				t.Errorf("%s: %v of %v", method.FullName(), err, req)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := versionapi.NewVersionClient(s.conn).Version(ctx, &emptypb.Empty{}); err != nil {
		t.Errorf("the core is gone: %v", err)
	}
}

// shout makes the call, with a namespace in most rounds, and does not listen for long.
func (s *side) shout(t *testing.T, m protoreflect.MethodDescriptor, req proto.Message, round int) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if round%3 != 1 {
		ctx = metadata.AppendToOutgoingContext(ctx, "containerd-namespace", "hostile")
	}
	if round%4 == 3 {
		ctx = metadata.AppendToOutgoingContext(ctx, "containerd-lease", "none")
	}
	path := fmt.Sprintf("/%s/%s", m.Parent().FullName(), m.Name())
	if !m.IsStreamingServer() && !m.IsStreamingClient() {
		return s.conn.Invoke(ctx, path, req, newMessage(t, m.Output()))
	}
	stream, err := s.conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, path)
	if err != nil {
		return err
	}
	for range 1 + round%3 {
		if err := stream.SendMsg(req); err != nil {
			break
		}
	}
	_ = stream.CloseSend()
	for range 100 {
		if err := stream.RecvMsg(newMessage(t, m.Output())); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
	return nil
}

// everyMethod lists the methods of containerd's services in the order of their files.
func everyMethod() (out []protoreflect.MethodDescriptor) {
	protoregistry.GlobalFiles.RangeFiles(func(f protoreflect.FileDescriptor) bool {
		for i := range f.Services().Len() {
			svc := f.Services().Get(i)
			if name := string(svc.FullName()); !strings.HasPrefix(name, "containerd.services.") || strings.Contains(name, ".ttrpc.") {
				continue
			}
			for j := range svc.Methods().Len() {
				out = append(out, svc.Methods().Get(j))
			}
		}
		return true
	})
	return out
}

func newMessage(t *testing.T, d protoreflect.MessageDescriptor) proto.Message {
	t.Helper()
	typ, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
	if err != nil {
		t.Fatal(err)
	}
	return typ.New().Interface()
}

// mess makes random messages. Its texts are such as mean something somewhere, or ought
// to be refused; none names a file system or a program.
type mess struct{ *rand.Rand }

var texts = []string{
	"", "a", "a/b", "../../x", "/", "/x/y", "overlayfs", "native", "hostile", "content", "snapshots/overlayfs", "labels", "labels.x", "labels.", "*",
	"id==a", "((", "sha256:" + strings.Repeat("a", 64), "sha256:", "types.containerd.io/opencontainers/runtime-spec/1/Spec", "containerd.runc.v1.Options",
	"containerd.types.transfer.ImageStore", "io.containerd.none.v2", "unix:///nowhere", "%s%n", "ü\u202e", strings.Repeat("x", 100_000),
}

func (m mess) text() string { return texts[m.IntN(len(texts))] }

// fill sets about two thirds of the fields.
func (m mess) fill(msg protoreflect.Message, depth int) {
	fields := msg.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if m.IntN(3) == 0 || depth > 4 {
			continue
		}
		switch {
		case f.IsMap():
			for range m.IntN(3) {
				key := m.scalar(f.MapKey()).MapKey()
				msg.Mutable(f).Map().Set(key, m.value(f.MapValue(), func() protoreflect.Value { return msg.Mutable(f).Map().NewValue() }, depth))
			}
		case f.IsList():
			for range m.IntN(3) {
				list := msg.Mutable(f).List()
				list.Append(m.value(f, list.NewElement, depth))
			}
		default:
			msg.Set(f, m.value(f, func() protoreflect.Value { return msg.NewField(f) }, depth))
		}
	}
}

func (m mess) value(f protoreflect.FieldDescriptor, empty func() protoreflect.Value, depth int) protoreflect.Value {
	if f.Message() == nil {
		return m.scalar(f)
	}
	v := empty()
	m.fill(v.Message(), depth+1)
	return v
}

func (m mess) scalar(f protoreflect.FieldDescriptor) protoreflect.Value {
	number := [...]int64{0, 1, -1, 7, 1 << 31, -1 << 63, 1<<63 - 1}[m.IntN(7)]
	switch f.Kind() {
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(m.IntN(2) == 0)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(m.text())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(m.text()))
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(m.IntN(6) - 1))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind, protoreflect.Sfixed32Kind:
		return protoreflect.ValueOfInt32(int32(number))
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		return protoreflect.ValueOfUint32(uint32(number))
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return protoreflect.ValueOfUint64(uint64(number))
	case protoreflect.FloatKind:
		return protoreflect.ValueOfFloat32(float32(number))
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(float64(number))
	default:
		return protoreflect.ValueOfInt64(number)
	}
}
