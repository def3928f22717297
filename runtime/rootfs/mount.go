// Package rootfs turns the mounts that make a container's root into steps of a
// program, run inside the container's own mount namespace: nothing is attached
// to the host's tree.
package rootfs

// Mount is one mount of a root filesystem, in the words of mount(8) as
// snapshotters give them.
type Mount struct {
	Type    string   `json:"type"`             // "overlay", "bind", "rbind", or a filesystem the kernel knows
	Source  string   `json:"source"`           // host path or device; a label for filesystems without one
	Target  string   `json:"target,omitempty"` // below the root; "" is the root itself
	Options []string `json:"options,omitempty"`
}
