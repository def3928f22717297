package daemon

import (
	"fmt"
	"math"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
	runtimeoptions "github.com/containerd/containerd/api/types/runtimeoptions/v1"
	"github.com/containerd/typeurl/v2"
	"github.com/pelletier/go-toml/v2"

	"gantry/daemon/config"
)

// runcShim is the type of runc's shim, whose options ours takes too.
const runcShim = "io.containerd.runc.v2"

// shimOptions turns a configured runtime's options into what its shim takes, by the
// names of the fields, in any case. Shims that are not known take the general ones. A
// shim of runc's kind is told who keeps the cgroups, since that is in the spec's path.
func shimOptions(r config.Runtime, systemd bool) (typeurl.Any, error) {
	runc := r.Type == runcShim || r.Type == builtin
	if len(r.Options) == 0 && !(runc && systemd) {
		return nil, nil
	}
	raw, err := toml.Marshal(whole(r.Options))
	if err != nil {
		return nil, fmt.Errorf("options: %w", err)
	}
	if !runc {
		var o runtimeoptions.Options
		if err := toml.Unmarshal(raw, &o); err != nil {
			return nil, fmt.Errorf("options: %w", err)
		}
		return typeurl.MarshalAny(&o)
	}
	o := runcoptions.Options{SystemdCgroup: systemd}
	if err := toml.Unmarshal(raw, &o); err != nil {
		return nil, fmt.Errorf("options: %w", err)
	}
	return typeurl.MarshalAny(&o)
}

// whole turns numbers, which JSON knows one kind of, into integers where they are.
func whole(options map[string]any) map[string]any {
	out := make(map[string]any, len(options))
	for k, v := range options {
		if f, ok := v.(float64); ok && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
			v = int64(f)
		}
		out[k] = v
	}
	return out
}
