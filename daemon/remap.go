package daemon

import (
	"fmt"

	"gantry/daemon/config"
	"gantry/daemon/userns"
)

// loadRemap finds out which ids containers have, and that their roots can have them.
func (d *Daemon) loadRemap(c *config.Config) (err error) {
	if d.remap, err = userns.Load(c.UsernsRemap, d.log); err != nil || d.remap.Empty() {
		return err
	}
	if !d.abilities.MapsIDs {
		return fmt.Errorf("userns-remap: the core's snapshotter %s does not map ids, as containerd's does since 2.0", c.StorageDriver)
	}
	if err := userns.Supported(d.remap, c.DataRoot); err != nil {
		return fmt.Errorf("userns-remap: %w", err)
	}
	return nil
}
