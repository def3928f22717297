package image

import (
	"context"
	"net/http"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	apiimage "gantry/api/image"
	"gantry/api/rest"
	"gantry/router/httputil"
	"gantry/router/route"
)

// postCreate pulls with fromImage, and imports with fromSrc.
func (r *Router) postCreate(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	platform, err := plainPlatform(ctx, req)
	if err != nil {
		return err
	}
	if req.Form.Get("fromImage") != "" {
		return r.pull(ctx, w, req, platform)
	}
	return r.importTar(ctx, w, req, platform)
}

func (r *Router) pull(ctx context.Context, w http.ResponseWriter, req *http.Request, p *ocispec.Platform) error {
	named, err := pullReference(req.Form.Get("fromImage"), req.Form.Get("tag"))
	if err != nil {
		return err
	}
	out := httputil.NewProgressStream(w, req)
	return out.Finish(r.backend.Pull(ctx, apiimage.PullOptions{
		Ref:      reference.FamiliarString(named),
		All:      reference.IsNameOnly(named),
		Platform: p,
		Auth:     httputil.Auth(req),
		Headers:  httputil.MetaHeaders(req),
	}, out.Emit))
}

// noBaseImage is the name that a Dockerfile has for nothing.
const noBaseImage = "scratch"

// pullReference joins a name and a tag, which may be a digest and wins over what the
// name holds.
func pullReference(name, tag string) (reference.Named, error) {
	if n := len(name); name[n-1] == ':' {
		name = name[:n-1] // as "pull -a" sends it
	}
	named, err := reference.ParseNormalizedNamed(name)
	if err != nil {
		return nil, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	if tag != "" {
		if d, derr := digest.Parse(tag); derr == nil {
			named, err = reference.WithDigest(reference.TrimNamed(named), d)
		} else {
			named, err = reference.WithTag(named, tag)
		}
		if err != nil {
			return nil, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
		}
	}
	if familiar := reference.FamiliarName(named); familiar == noBaseImage {
		return nil, errdefs.PermissionDenied("'%s' is a reserved name", familiar)
	}
	return named, nil
}

func (r *Router) importTar(ctx context.Context, w http.ResponseWriter, req *http.Request, p *ocispec.Platform) error {
	named, err := httputil.RepoTag(req.Form.Get("repo"), req.Form.Get("tag"))
	if err != nil {
		return err
	}
	o := apiimage.ImportOptions{
		Source:   req.Form.Get("fromSrc"),
		Message:  req.Form.Get("message"),
		Changes:  req.Form["changes"],
		Platform: p,
	}
	if named != nil {
		o.Ref = reference.FamiliarString(named)
	}
	if o.Message == "" {
		o.Message = "Imported from " + o.Source
	}
	if o.Source == "-" {
		o.Body = req.Body
	}
	out := httputil.NewProgressStream(w, req)
	return out.Finish(r.backend.Import(ctx, o, out.Emit))
}

func (r *Router) postPush(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	named, err := pushReference(route.Var(req, "name"), req.Form.Get("tag"))
	if err != nil {
		return err
	}
	var platform *ocispec.Platform
	if rest.PushPlatform.In(ctx) {
		if platform, err = httputil.Platform(req, "platform"); err != nil {
			return err
		}
	}
	out := httputil.NewProgressStream(w, req)
	return out.Finish(r.backend.Push(ctx, reference.FamiliarString(named), platform, httputil.Auth(req), out.Emit))
}

// pushReference without a tag pushes every tag of the name.
func pushReference(name, tag string) (reference.Named, error) {
	if tag == "" {
		named, err := reference.ParseNormalizedNamed(name)
		return named, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	return httputil.RepoTag(name, tag)
}

// postLoad tells every error of the load inside the stream.
func (r *Router) postLoad(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	platform, err := savePlatform(ctx, req)
	if err != nil {
		return err
	}
	out := httputil.NewProgressStream(w, req)
	return out.FinishInBand(r.backend.Load(ctx, req.Body, platform, httputil.BoolOr(req, "quiet", true), out.Emit))
}

func (r *Router) getSave(ctx context.Context, w http.ResponseWriter, req *http.Request) error {
	if err := httputil.ParseForm(req); err != nil {
		return err
	}
	platform, err := savePlatform(ctx, req)
	if err != nil {
		return err
	}
	names := req.Form["names"]
	if name := route.Var(req, "name"); name != "" {
		names = []string{name}
	}
	w.Header().Set("Content-Type", "application/x-tar")
	return r.backend.Save(ctx, names, platform, w)
}

// plainPlatform reads the os/arch/variant form of pull and import.
func plainPlatform(ctx context.Context, req *http.Request) (*ocispec.Platform, error) {
	v := req.Form.Get("platform")
	if v == "" || !rest.PullPlatform.In(ctx) {
		return nil, nil
	}
	p, err := platforms.Parse(v)
	if err != nil {
		return nil, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	return &p, nil
}

func savePlatform(ctx context.Context, req *http.Request) (*ocispec.Platform, error) {
	if !rest.ImagePlatform.In(ctx) {
		return nil, nil
	}
	return httputil.OnePlatform(req, "platform")
}
