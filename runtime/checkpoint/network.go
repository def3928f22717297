package checkpoint

import (
	"os/exec"

	"github.com/checkpoint-restore/go-criu/v8/rpc"
)

// lockNetwork chooses how packets are held off between a dump and the restore, where
// CRIU's default, iptables, is not installed. Who has no TCP connection to keep needs
// no lock.
func (o *Options) lockNetwork(to *rpc.CriuOpts, version int) {
	if _, err := exec.LookPath("iptables-restore"); err == nil {
		return
	}
	switch {
	case !o.TCPEstablished && version >= versionNoLock:
		to.NetworkLock = ptr(rpc.CriuNetworkLockMethod_SKIP)
	case version >= versionNFTables:
		to.NetworkLock = ptr(rpc.CriuNetworkLockMethod_NFTABLES)
	}
}
