package boot

import (
	"encoding/json"
	"io"

	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/runtime-spec/specs-go"
	"github.com/opencontainers/runtime-spec/specs-go/features"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// featuresURL is the type containerd gives to the OCI features, in JSON.
const featuresURL = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"

// writeInfo prints what the runtime is and can do.
func writeInfo(w io.Writer) error {
	raw, err := json.Marshal(features.Features{OCIVersionMin: "1.0.0", OCIVersionMax: specs.Version})
	if err != nil {
		return err
	}
	info, err := proto.Marshal(&types.RuntimeInfo{
		Name:     name,
		Version:  &types.RuntimeVersion{Version: Version},
		Features: &anypb.Any{TypeUrl: featuresURL, Value: raw},
	})
	if err != nil {
		return err
	}
	_, err = w.Write(info)
	return err
}
