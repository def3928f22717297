package server

import (
	"gantry/libctr/core/container"
	"gantry/libctr/core/image"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/namespace"
	"gantry/libctr/core/snapshot"
)

// Short names for what is looked up among the plugins.
type (
	containerStore = container.Store
	imageStore     = image.Store
	leaseManager   = lease.Manager
	namespaceStore = namespace.Store
	snapshotterMap = map[string]snapshot.Snapshotter
)
