package client

import (
	"sync"

	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

// registerTypes gives the runtime-spec's types, which are no protobuf messages, the
// type URLs by which containerd's clients know them.
var registerTypes = sync.OnceFunc(func() {
	const prefix = "types.containerd.io/opencontainers/runtime-spec/1"
	typeurl.Register(&specs.Spec{}, prefix, "Spec")
	typeurl.Register(&specs.Process{}, prefix, "Process")
	typeurl.Register(&specs.LinuxResources{}, prefix, "LinuxResources")
})
