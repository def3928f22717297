// Package mount names a mount as the core hands it out: what a snapshotter says
// is to be mounted, by whoever needs it.
package mount

// Mount is one mount; Options are those of mount(8), "lowerdir=…" among them.
type Mount struct {
	Type    string   `json:"type"`
	Source  string   `json:"source"`
	Target  string   `json:"target,omitempty"` // below the root that the others mount, usually empty
	Options []string `json:"options,omitempty"`
}
