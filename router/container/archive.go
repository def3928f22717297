package container

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/errdefs"
	"gantry/router/httputil"
	"gantry/router/route"
)

// pathStatHeader carries the base64 JSON of a path's stat. Docker API: /containers/{id}/archive.
const pathStatHeader = "X-Docker-Container-Path-Stat"

func (r *Router) headArchive(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	path, err := archivePath(req)
	if err != nil {
		return err
	}
	stat, err := r.backend.StatPath(ctx, route.Var(req, "name"), path)
	if err != nil {
		return err
	}
	return setPathStat(w, stat)
}

func (r *Router) getArchive(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	path, err := archivePath(req)
	if err != nil {
		return err
	}
	tar, stat, err := r.backend.CopyFrom(ctx, route.Var(req, "name"), path)
	if err != nil {
		return err
	}
	defer tar.Close()
	if err := setPathStat(w, stat); err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-tar")
	return httputil.WriteEncoded(w, req, tar.Pack)
}

func (r *Router) putArchive(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	path, err := archivePath(req)
	if err != nil {
		return err
	}
	o := containertypes.CopyToContainerOptions{
		AllowOverwriteDirWithFile: !httputil.Bool(req, "noOverwriteDirNonDir"),
		CopyUIDGID:                httputil.Bool(req, "copyUIDGID"),
	}
	return r.backend.CopyTo(ctx, route.Var(req, "name"), path, o, req.Body)
}

func (r *Router) getExport(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	w.Header().Set("Content-Type", "application/octet-stream")
	return r.backend.Export(ctx, route.Var(req, "name"), w)
}

func archivePath(req *http.Request) (string, error) {
	if err := httputil.ParseForm(req); err != nil {
		return "", err
	}
	path := req.Form.Get("path")
	if path == "" {
		return "", errdefs.InvalidArgument("bad parameter: pathcannot be empty") // Docker's words, its missing space too
	}
	return path, nil
}

func setPathStat(w http.ResponseWriter, stat containertypes.PathStat) error {
	b, err := json.Marshal(stat)
	if err != nil {
		return err
	}
	w.Header().Set(pathStatHeader, base64.StdEncoding.EncodeToString(b))
	return nil
}
