package plan

import (
	"fmt"

	"github.com/containerd/errdefs"
)

// netDevices waits until the parent has moved network devices into the container's
// namespace: before sysctls, which may be theirs.
func (b *builder) netDevices() error {
	if len(b.spec.Linux.NetDevices) == 0 {
		return nil
	}
	if b.o.Creator.Unprivileged {
		return fmt.Errorf("network devices are not supported for rootless containers: %w", errdefs.ErrInvalidArgument)
	}
	b.Label("wait for network devices")
	b.Ask(AskNetDevices)
	return nil
}
