package mountpoint

import (
	"fmt"
	"strings"

	mounttypes "github.com/docker/docker/api/types/mount"
)

// InDaemonRoot sets the propagation of a bind that shows the daemon's root, or a part of
// it: a container must not hold on to what the daemon unmounts there.
func (p *Point) InDaemonRoot(root string) error {
	if !p.ShowsRoot(root) {
		return nil
	}
	o := p.Spec.BindOptions
	if o == nil {
		p.Propagation = mounttypes.PropagationRSlave
		return nil
	}
	switch o.Propagation {
	case "":
		p.Propagation = mounttypes.PropagationRSlave
	case mounttypes.PropagationRSlave, mounttypes.PropagationRShared:
	default:
		return fmt.Errorf(`invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: %q, bind mount source: %q, propagation: %q`,
			root, p.Spec.Source, o.Propagation)
	}
	return nil
}

// ShowsRoot says whether p is a bind of the daemon's root, of something in it, or of
// something that it is in.
func (p *Point) ShowsRoot(root string) bool {
	src := p.Spec.Source
	return p.Type == mounttypes.TypeBind && (strings.HasPrefix(src, root) || strings.HasPrefix(root, src))
}

// AskedPropagation says whether the propagation is what a user asked for.
func (p *Point) AskedPropagation() bool {
	return p.Spec.BindOptions != nil && p.Spec.BindOptions.Propagation != ""
}

// TopReadOnly makes a read-only bind read-only at its top alone, as it was before API 1.44.
func (p *Point) TopReadOnly() {
	if p.Type != mounttypes.TypeBind || p.RW {
		return
	}
	o := mounttypes.BindOptions{}
	if p.Spec.BindOptions != nil {
		o = *p.Spec.BindOptions
	}
	o.ReadOnlyNonRecursive = true
	p.Spec.BindOptions = &o
}
