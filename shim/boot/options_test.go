package boot

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
)

func packed(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return &anypb.Any{TypeUrl: nameOf(m), Value: raw}
}

// TestOptions pins that every option gets where it is used, in each of its forms.
func TestOptions(t *testing.T) {
	o := &options.Options{
		NoPivotRoot: true, NoNewKeyring: true, ShimCgroup: "/c", IoUid: 7, IoGid: 8,
		BinaryName: "crun", Root: "/r", SystemdCgroup: true, CriuImagePath: "/i", CriuWorkPath: "/w",
	}
	want := choice{
		Binary: "crun", Root: "/r/ns", SystemdCgroup: true, NoPivot: true, NoNewKeyring: true,
		IoUID: 7, IoGID: 8, ShimCgroup: "/c", CriuWork: "/w",
	}
	body := []byte(`NoPivotRoot = true
NoNewKeyring = true
ShimCgroup = "/c"
IoUid = 7
IoGid = 8
BinaryName = "crun"
Root = "/r"
SystemdCgroup = true
CriuImagePath = "/i"
CriuWorkPath = "/w"
`)
	path := filepath.Join(t.TempDir(), "options.toml")
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]*anypb.Any{
		"message": packed(t, o),
		"text":    packed(t, &runtimeoptions.Options{ConfigBody: body}),
		"file":    packed(t, &runtimeoptions.Options{TypeUrl: "containerd.runc.v1.Options", ConfigPath: path, ConfigBody: []byte(`Root = "/other"`)}),
	} {
		if got, err := choose(tc, "ns", "/bundle"); err != nil || got != want {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if got, err := decodeOptions(tc); err != nil || !proto.Equal(got, o) {
			t.Errorf("%s: decoded %v, %v", name, got, err)
		}
	}
	if got, err := choose(nil, "ns", "/bundle"); err != nil || got != (choice{Root: "/bundle/runtime"}) {
		t.Errorf("none: %+v, %v", got, err)
	}
}

func TestBadOptions(t *testing.T) {
	for name, tc := range map[string]*anypb.Any{
		"another message":    {TypeUrl: "io.example.Options", Value: []byte{8, 1}},
		"another text":       packed(t, &runtimeoptions.Options{TypeUrl: "io.containerd.runsc.v1.options", ConfigBody: []byte("debug = true")}),
		"garbage":            {TypeUrl: "containerd.runc.v1.Options", Value: []byte{0xff}},
		"garbage in text":    packed(t, &runtimeoptions.Options{ConfigBody: []byte("= 1")}),
		"unknown in text":    packed(t, &runtimeoptions.Options{ConfigBody: []byte(`Debug = true`)}),
		"wrong type in text": packed(t, &runtimeoptions.Options{ConfigBody: []byte(`Root = 3`)}),
	} {
		if _, err := choose(tc, "ns", "/bundle"); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := choose(packed(t, &runtimeoptions.Options{ConfigPath: "/no/such/file"}), "ns", "/bundle"); err == nil {
		t.Error("a file that is not there was read")
	}
}
