package boot

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	bootstrapapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"github.com/containerd/containerd/api/types/runc/options"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

func encode(t *testing.T, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestAnswer(t *testing.T) {
	a := args{namespace: "moby", id: "c1"}
	for name, tc := range map[string]struct {
		stdin []byte
		want  string
	}{
		"containerd 2.3": {encode(t, &bootstrapapi.BootstrapParams{InstanceID: "c1", Namespace: "moby"}),
			`{"version":3,"address":"unix:///s","protocol":"ttrpc"}`},
		"older, with options": {encode(t, &anypb.Any{TypeUrl: "containerd.runc.v1.Options", Value: encode(t, &options.Options{BinaryName: "crun"})}), "unix:///s"},
		"older":               {nil, "unix:///s"},
		"noise":               {[]byte("\xff\xffnoise"), "unix:///s"},
		"another container's": {encode(t, &bootstrapapi.BootstrapParams{InstanceID: "c2", Namespace: "moby"}), "unix:///s"},
	} {
		p, err := a.readParams(bytes.NewReader(tc.stdin))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := string(answer(p, "unix:///s")); got != tc.want {
			t.Errorf("%s: answer %q, want %q", name, got, tc.want)
		}
	}
}

func TestSocketPath(t *testing.T) {
	dir, file := "/run/elsewhere", filepath.Join(t.TempDir(), "s")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	long := "/" + strings.Repeat("x", 60)
	for name, tc := range map[string]struct {
		address string
		params  *bootstrapapi.BootstrapParams
		want    string // the folder
	}{
		"said":             {"/run/containerd/containerd.sock", &bootstrapapi.BootstrapParams{SocketDir: &dir}, dir},
		"beside address":   {"/run/containerd/containerd.sock", nil, "/run/containerd/s"},
		"with a scheme":    {"unix:///run/containerd/containerd.sock", nil, "/run/containerd/s"},
		"too long":         {long + "/core.sock", nil, farDir},
		"said too long":    {"/run/c.sock", &bootstrapapi.BootstrapParams{SocketDir: &long}, "/run/s"},
		"none":             {"", nil, farDir},
		"taken by another": {filepath.Join(filepath.Dir(file), "core.sock"), &bootstrapapi.BootstrapParams{SocketDir: &file}, farDir},
	} {
		a := args{namespace: "moby", id: "c1", address: tc.address}
		got := a.socketPath(tc.params, "g")
		if !strings.HasPrefix(got, tc.want+"/") || len(got) > maxSocketPath {
			t.Errorf("%s: %q, want it in %s", name, got, tc.want)
		}
	}
	a, b := args{namespace: "a", address: "/x"}, args{namespace: "b", address: "/x"}
	if a.socketPath(nil, "g") == b.socketPath(nil, "g") || a.socketPath(nil, "g") == a.socketPath(nil, "h") {
		t.Error("different groups share a socket")
	}
}

func TestChoose(t *testing.T) {
	any := func(o *options.Options) *anypb.Any {
		return &anypb.Any{TypeUrl: "containerd.runc.v1.Options", Value: encode(t, o)}
	}
	for name, tc := range map[string]struct {
		options *anypb.Any
		want    choice
	}{
		"none":     {nil, choice{Root: "/b/runtime"}},
		"empty":    {&anypb.Any{}, choice{Root: "/b/runtime"}},
		"root":     {any(&options.Options{Root: "/r"}), choice{Root: "/r/ns"}},
		"owners":   {any(&options.Options{IoUid: 7, IoGid: 8, ShimCgroup: "/s"}), choice{IoUID: 7, IoGID: 8, ShimCgroup: "/s", Root: "/b/runtime"}},
		"binary":   {any(&options.Options{BinaryName: "crun", SystemdCgroup: true}), choice{Binary: "crun", Root: "/run/containerd/runc/ns", SystemdCgroup: true}},
		"no pivot": {any(&options.Options{NoPivotRoot: true, NoNewKeyring: true}), choice{Root: "/b/runtime", NoPivot: true, NoNewKeyring: true}},
	} {
		got, err := choose(tc.options, "ns", "/b")
		if err != nil || got != tc.want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, tc.want)
		}
	}
	if _, err := choose(&anypb.Any{TypeUrl: "other", Value: []byte("x")}, "ns", "/b"); err == nil {
		t.Error("unknown options are taken")
	}
}

func TestNamed(t *testing.T) {
	for argv0, want := range map[string]string{
		"/usr/bin/containerd-shim-gantry-v2":      "",
		"/usr/bin/containerd-shim-gantry-crun-v2": "crun",
		"containerd-shim-gantry-runc-v2":          "runc",
		"boot.test":                               "",
	} {
		if got := named(argv0); got != want {
			t.Errorf("named(%q) = %q, want %q", argv0, got, want)
		}
	}
}
