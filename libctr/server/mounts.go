package server

import (
	"path/filepath"

	"github.com/containerd/plugin"

	"gantry/libctr/activation"
	"gantry/libctr/metadata"
	"gantry/libctr/services/mounts"
	"gantry/libctr/task"
)

const typeMountManager plugin.Type = "io.containerd.mount-manager.v1"

// mounts are the mounts that the core makes itself.
func (b *builder) mounts() []*plugin.Registration {
	return []*plugin.Registration{
		{Type: typeMountManager, ID: "bolt", Requires: []plugin.Type{typeMetadata}, InitFn: b.initMountManager},
		{Type: typeGRPC, ID: "mounts", Requires: []plugin.Type{typeMountManager}, InitFn: initMounts},
	}
}

// initMountManager lets clients have directories and file systems made below the core's
// root, as containerd does: snapshotters are there.
func (b *builder) initMountManager(ic *plugin.InitContext) (any, error) {
	db, err := lookup[*metadata.DB](ic, typeMetadata, "bolt")
	if err != nil {
		return nil, err
	}
	targets := filepath.Join(ic.Properties[propState], "t")
	m, err := activation.New(activation.Config{
		Dir: targets, Roots: []string{b.cfg.Root, targets}, Records: db.Mounts(), Log: b.log})
	if err != nil {
		return nil, err
	}
	db.OnCollect(m.Sweep)
	return m, nil
}

func initMounts(ic *plugin.InitContext) (any, error) {
	m, err := lookup[*activation.Manager](ic, typeMountManager, "bolt")
	if err != nil {
		return nil, err
	}
	return mounts.New(m), nil
}

// taskMounts are nil where the mount manager is disabled: shims then get all mounts.
func taskMounts(ic *plugin.InitContext) task.Mounts {
	m, err := lookup[*activation.Manager](ic, typeMountManager, "bolt")
	if err != nil {
		return nil
	}
	return m
}
