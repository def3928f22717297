package fsck

import (
	"path/filepath"
	"strings"

	"gantry/libctr/metadata"
)

const taskPlugin = "io.containerd.runtime.v2.task"

// bundles are tasks' directories, each of a container or a sandbox.
func (c *checker) bundles(records, boot metadata.Inspection) {
	if c.State == "" {
		return
	}
	known := map[string]bool{}
	for _, ns := range append(records.Namespaces, boot.Namespaces...) {
		for _, ct := range ns.Containers {
			known[ns.Name+"/"+ct.ID] = true
		}
		for _, id := range ns.Sandboxes {
			known[ns.Name+"/"+id] = true
		}
	}
	dirs, _ := filepath.Glob(filepath.Join(c.State, taskPlugin, "*", "*"))
	for _, dir := range dirs {
		id, ns := filepath.Base(dir), filepath.Base(filepath.Dir(dir))
		if strings.HasPrefix(id, ".") || strings.HasPrefix(ns, ".") { // what is being deleted
			continue
		}
		if !known[ns+"/"+id] {
			c.find(Finding{Class: Orphan, Kind: "bundle", Namespace: ns, Name: id, Path: dir, Text: "no container or sandbox has this id"})
		}
	}
}
