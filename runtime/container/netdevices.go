package container

import (
	"fmt"
	"os"

	"gantry/runtime/netdev"
)

// moveDevices gives the container its network devices. When create fails they come back,
// which must be before the namespace ends with the init: virtual ones would end with it.
func (k *creation) moveDevices(pid int) error {
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return err
	}
	defer ns.Close()
	if k.devices, err = netdev.Move(ns, k.Spec.Linux.NetDevices); err != nil {
		return err
	}
	k.undo = append(k.undo, k.devices.Back)
	return nil
}
