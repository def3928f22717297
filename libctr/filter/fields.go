package filter

import (
	"gantry/libctr/core/content"
	"gantry/libctr/core/snapshot"
)

// Blob makes a blob filterable: digest and labels; containerd knows no size.
func Blob(i content.Info) Fields {
	return func(path []string) (string, bool) {
		switch path[0] {
		case "digest":
			return i.Digest.String(), true
		case "labels":
			return Label(i.Labels, path[1:])
		}
		return "", false
	}
}

// Snapshot makes a snapshot filterable: kind, name, parent, labels.
func Snapshot(i snapshot.Info) Fields {
	return func(path []string) (string, bool) {
		switch path[0] {
		case "kind":
			name, ok := kindNames[i.Kind]
			return name, ok
		case "name":
			return i.Name, true
		case "parent":
			return i.Parent, true
		case "labels":
			return Label(i.Labels, path[1:])
		}
		return "", false
	}
}

var kindNames = map[snapshot.Kind]string{
	snapshot.KindView: "view", snapshot.KindActive: "active", snapshot.KindCommitted: "committed",
}
