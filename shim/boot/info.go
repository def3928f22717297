package boot

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/containerd/api/types/runc/options"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/runtime/features"
)

// featuresURL is the type containerd gives to the OCI features, in JSON.
const featuresURL = "types.containerd.io/opencontainers/runtime-spec/1/features/Features"

// featuresTimeout bounds the question to an OCI runtime's command line.
const featuresTimeout = 5 * time.Second

// writeInfo prints what the runtime is and can do that stdin's options, an Any or nothing,
// ask for. An OCI runtime that does not tell has no features.
func writeInfo(stdin io.Reader, stdout io.Writer) error {
	asked, err := readOptions(stdin)
	if err != nil {
		return err
	}
	o, err := decodeOptions(asked)
	if err != nil {
		return err
	}
	raw, err := featuresOf(binaryOf(o))
	if err != nil {
		return err
	}
	r := &types.RuntimeInfo{Name: name, Version: &types.RuntimeVersion{Version: Version}, Options: asked}
	if raw != nil {
		r.Features = &anypb.Any{TypeUrl: featuresURL, Value: raw}
	}
	info, err := proto.Marshal(r)
	if err != nil {
		return err
	}
	_, err = stdout.Write(info)
	return err
}

// readOptions reads an Any, nil when there is nothing.
func readOptions(stdin io.Reader) (*anypb.Any, error) {
	if f, ok := stdin.(*os.File); ok {
		if st, err := f.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 { // by hand
			return nil, nil
		}
	}
	raw, err := io.ReadAll(io.LimitReader(stdin, maxParams))
	if err != nil || len(raw) == 0 {
		return nil, err
	}
	asked := new(anypb.Any)
	if err := proto.Unmarshal(raw, asked); err != nil {
		return nil, errdefs.InvalidArgument("runtime options: %w", err)
	}
	return asked, nil
}

// featuresOf are a runtime's, in JSON; "" is the built-in one.
func featuresOf(binary string) ([]byte, error) {
	if binary == "" {
		return json.Marshal(features.Supported())
	}
	path, err := exec.LookPath(binary)
	if err != nil {
		return nil, fmt.Errorf("runtime %s: %w", binary, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), featuresTimeout)
	defer cancel()
	raw, err := exec.CommandContext(ctx, path, "features").Output()
	if err != nil || !json.Valid(raw) {
		return nil, nil //nolint:nilerr // it is from before there were features
	}
	return raw, nil
}

// binaryOf is the OCI runtime that options, or else the shim's own name, ask for; "" is the
// built-in one.
func binaryOf(o *options.Options) string {
	if o.GetBinaryName() != "" {
		return o.GetBinaryName()
	}
	return named(os.Args[0])
}
