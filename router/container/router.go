// Package container serves /containers and /commit: decode, one call, encode.
package container

import (
	"net/http"

	"gantry/router/route"
)

// Config is what the wire needs to know about the host.
type Config struct {
	// CgroupV1: clients before API 1.41 expect the host's cgroup namespace there.
	CgroupV1 bool
}

// Router holds the routes of containers.
type Router struct {
	backend Backend
	cfg     Config
}

// New returns the routes on b. Commits need a backend with the method of committer.
func New(b Backend, cfg Config) *Router { return &Router{backend: b, cfg: cfg} }

// Routes is the table of this resource.
func (r *Router) Routes() []route.Route {
	const one = "/containers/{name:.*}"
	return []route.Route{
		{Method: http.MethodPost, Path: "/containers/create", Handler: r.postCreate, Life: route.Detached},
		{Method: http.MethodPost, Path: "/containers/prune", Handler: r.postPrune},
		{Method: http.MethodGet, Path: "/containers/json", Handler: r.getList},

		{Method: http.MethodPost, Path: one + "/start", Handler: r.postStart, Life: route.Detached},
		{Method: http.MethodPost, Path: one + "/stop", Handler: r.postStop, Life: route.Detached},
		{Method: http.MethodPost, Path: one + "/restart", Handler: r.postRestart, Life: route.Detached},
		{Method: http.MethodPost, Path: one + "/kill", Handler: r.postKill, Life: route.Detached},
		{Method: http.MethodPost, Path: one + "/pause", Handler: r.postPause, Life: route.Detached},
		{Method: http.MethodPost, Path: one + "/unpause", Handler: r.postUnpause, Life: route.Detached},
		{Method: http.MethodPost, Path: one + "/rename", Handler: r.postRename, Life: route.Detached},
		{Method: http.MethodPost, Path: one + "/update", Handler: r.postUpdate, Life: route.Detached},
		{Method: http.MethodPost, Path: one + "/wait", Handler: r.postWait, Life: route.Stream},
		{Method: http.MethodPost, Path: one + "/resize", Handler: r.postResize},
		{Method: http.MethodPost, Path: one + "/attach", Handler: r.postAttach, Life: route.Hijack},

		{Method: http.MethodGet, Path: one + "/json", Handler: r.getInspect},
		{Method: http.MethodGet, Path: one + "/top", Handler: r.getTop},
		{Method: http.MethodGet, Path: one + "/logs", Handler: r.getLogs, Life: route.Stream},
		{Method: http.MethodGet, Path: one + "/stats", Handler: r.getStats, Life: route.Stream},
		{Method: http.MethodGet, Path: one + "/attach/ws", Handler: r.getAttachWS, Life: route.Stream},
		{Method: http.MethodGet, Path: one + "/changes", Handler: r.getChanges},
		{Method: http.MethodGet, Path: one + "/export", Handler: r.getExport, Life: route.Stream},
		{Method: http.MethodHead, Path: one + "/archive", Handler: r.headArchive},
		{Method: http.MethodGet, Path: one + "/archive", Handler: r.getArchive, Life: route.Stream},
		{Method: http.MethodPut, Path: one + "/archive", Handler: r.putArchive, Body: route.Upload},

		{Method: http.MethodGet, Path: one + "/checkpoints", Handler: r.getCheckpoints, Experimental: true},
		{Method: http.MethodPost, Path: one + "/checkpoints", Handler: r.postCheckpoint, Life: route.Detached, Experimental: true},
		{Method: http.MethodDelete, Path: one + "/checkpoints/{checkpoint}", Handler: r.deleteCheckpoint, Life: route.Detached, Experimental: true},

		{Method: http.MethodDelete, Path: one, Handler: r.deleteOne, Life: route.Detached},
		{Method: http.MethodPost, Path: "/commit", Handler: r.postCommit, Life: route.Detached},
	}
}
