// Package image serves /images: decode, one call, encode.
package image

import (
	"net/http"

	"gantry/router/route"
)

// Router holds the routes of images.
type Router struct{ backend Backend }

// New returns the routes on b. Searching needs a backend with the method of searcher.
func New(b Backend) *Router { return &Router{backend: b} }

// Routes is the table of this resource.
func (r *Router) Routes() []route.Route {
	const one = "/images/{name:.*}"
	return []route.Route{
		{Method: http.MethodGet, Path: "/images/json", Handler: r.getList},
		{Method: http.MethodGet, Path: "/images/search", Handler: r.getSearch},
		{Method: http.MethodGet, Path: "/images/get", Handler: r.getSave, Life: route.Stream},
		{Method: http.MethodGet, Path: one + "/get", Handler: r.getSave, Life: route.Stream},
		{Method: http.MethodGet, Path: one + "/history", Handler: r.getHistory},
		{Method: http.MethodGet, Path: one + "/json", Handler: r.getInspect},
		{Method: http.MethodPost, Path: "/images/load", Handler: r.postLoad, Life: route.Stream, Body: route.Upload},
		{Method: http.MethodPost, Path: "/images/create", Handler: r.postCreate, Life: route.Stream, Body: route.Upload},
		{Method: http.MethodPost, Path: "/images/prune", Handler: r.postPrune},
		{Method: http.MethodPost, Path: one + "/push", Handler: r.postPush, Life: route.Stream},
		{Method: http.MethodPost, Path: one + "/tag", Handler: r.postTag, Life: route.Detached},
		{Method: http.MethodDelete, Path: one, Handler: r.deleteOne, Life: route.Detached},
	}
}
