package task

import (
	"errors"
	"strings"
	"testing"

	bootstrapapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	taskv2 "github.com/containerd/containerd/api/runtime/task/v2"
	taskv3 "github.com/containerd/containerd/api/runtime/task/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"

	"gantry/api/errdefs"
)

func TestParseBootstrap(t *testing.T) {
	asProto := func(r *bootstrapapi.BootstrapResult) string {
		data, err := proto.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for _, tc := range []struct {
		name, out string
		want      bootstrap
		class     error
		bad       bool
	}{
		{name: "bare address", out: "unix:///run/s/x\n", want: bootstrap{Version: 2, Address: "unix:///run/s/x", Protocol: "ttrpc"}},
		{name: "json", out: `{"version":3,"address":"unix:///x","protocol":"TTRPC"}` + "\n", want: bootstrap{Version: 3, Address: "unix:///x", Protocol: "ttrpc"}},
		{name: "json without protocol", out: `{"version":2,"address":"unix:///x"}`, want: bootstrap{Version: 2, Address: "unix:///x", Protocol: "ttrpc"}},
		{name: "protobuf", out: asProto(&bootstrapapi.BootstrapResult{Version: 3, Address: "unix:///x", Protocol: "ttrpc"}),
			want: bootstrap{Version: 3, Address: "unix:///x", Protocol: "ttrpc"}},
		{name: "protobuf that ends in a newline", out: asProto(&bootstrapapi.BootstrapResult{Version: 3, Address: "unix:///x", Protocol: "ttrpc",
			Metadata: map[string]string{"k": "v\n"}}), want: bootstrap{Version: 3, Address: "unix:///x", Protocol: "ttrpc"}},
		{name: "nothing", out: " \n", bad: true},
		{name: "future version", out: `{"version":4,"address":"unix:///x"}`, class: errdefs.ErrNotImplemented, bad: true},
		{name: "no version", out: `{"address":"unix:///x"}`, class: errdefs.ErrNotImplemented, bad: true},
		{name: "grpc", out: `{"version":3,"address":"unix:///x","protocol":"grpc"}`, want: bootstrap{Version: 3, Address: "unix:///x", Protocol: "grpc"}},
		{name: "grpc at a bare path", out: `{"version":3,"address":"/x","protocol":"grpc"}`, want: bootstrap{Version: 3, Address: "unix:///x", Protocol: "grpc"}},
		{name: "grpc of version 2", out: `{"version":2,"address":"unix:///x","protocol":"grpc"}`, class: errdefs.ErrNotImplemented, bad: true},
		{name: "unknown protocol", out: `{"version":3,"address":"unix:///x","protocol":"http"}`, class: errdefs.ErrNotImplemented, bad: true},
		{name: "virtual machine", out: `{"version":3,"address":"vsock://3:1024","protocol":"ttrpc"}`, class: errdefs.ErrNotImplemented, bad: true},
		{name: "log lines", out: "warning: x\nunix:///x", class: errdefs.ErrInvalidArgument, bad: true},
		{name: "endless", out: strings.Repeat("x", 5000), class: errdefs.ErrInvalidArgument, bad: true},
		{name: "half json", out: `{"version":`, bad: true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parseBootstrap([]byte(tc.out))
			if (err != nil) != tc.bad || (tc.class != nil && !errors.Is(err, tc.class)) {
				t.Fatalf("error %v", err)
			}
			if !tc.bad && got != tc.want {
				t.Errorf("got %+v, want %+v", got, tc.want)
			}
		})
	}
}

func FuzzParseBootstrap(f *testing.F) {
	f.Add([]byte("unix:///x"))
	f.Add([]byte(`{"version":3}`))
	f.Add([]byte("\x08\x03\x12\x01x"))
	f.Fuzz(func(t *testing.T, out []byte) {
		b, err := parseBootstrap(out)
		if err == nil && (b.Address == "" || b.Version < 2 || b.Version > 3) {
			t.Errorf("%q gives %+v", out, b)
		}
	})
}

// TestVersionsHaveTheSameMessages pins what lets one client speak both: version 2
// and 3 of the task API differ in the package's name only.
func TestVersionsHaveTheSameMessages(t *testing.T) {
	v2 := protodesc.ToFileDescriptorProto(taskv2.File_runtime_task_v2_shim_proto)
	v3 := protodesc.ToFileDescriptorProto(taskv3.File_runtime_task_v3_shim_proto)
	text := func(m proto.Message) string {
		data, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return strings.NewReplacer("task.v2", "task.v3", "task/v2", "task/v3").Replace(string(data))
	}
	if text(v2) != text(v3) {
		t.Error("the two versions have grown apart: the client needs a bridge")
	}
}

func TestBinaryName(t *testing.T) {
	for in, want := range map[string]string{
		"io.containerd.runc.v2":          "containerd-shim-runc-v2",
		"io.containerd.gantry.v2":        "containerd-shim-gantry-v2",
		"io.containerd.runc.v1":          "containerd-shim-runc-v2",
		"io.containerd.runtime.v1.linux": "containerd-shim-runc-v2",
		"kata.v2":                        "containerd-shim-kata-v2",
		"runc":                           "",
		"":                               "",
		"../x.v2":                        "",
		"a..v2":                          "",
		"a.b.":                           "",
	} {
		got, err := binaryName(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestShimEnv(t *testing.T) {
	got := shimEnv([]string{"PATH=/bin", "NOTIFY_SOCKET=/x", "LISTEN_FDS=1", "NAMESPACE=other", "NOTIFY_SOCKETS=y"})
	if strings.Join(got, " ") != "PATH=/bin NOTIFY_SOCKETS=y" {
		t.Errorf("got %q", got)
	}
}
