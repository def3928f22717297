package checkpoint

import (
	"fmt"
	"os/exec"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// lockNetwork chooses how packets are held off between a dump and the restore, where
// CRIU's default, iptables, is not installed. Who has no TCP connection to keep needs
// no lock. With nftables an older CRIU does not find its lock again, which matters
// where the network outlives the container.
func (o *Options) lockNetwork(to *rpc.CriuOpts, spec *specs.Spec, version int) error {
	if _, err := exec.LookPath("iptables-restore"); err == nil {
		return nil
	}
	outlives := joinedPath(spec, specs.NetworkNamespace) != ""
	switch {
	case !o.TCPEstablished && version >= versionNoLock:
		to.NetworkLock = ptr(rpc.CriuNetworkLockMethod_SKIP)
	case version >= versionFindsLock, version >= versionNFTables && !outlives:
		to.NetworkLock = ptr(rpc.CriuNetworkLockMethod_NFTABLES)
	case outlives:
		return fmt.Errorf("a network namespace that was joined by path needs iptables-restore with CRIU version %d", version)
	}
	return nil
}
