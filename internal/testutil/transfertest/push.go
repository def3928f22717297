package transfertest

import (
	"runtime"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/manifest"
	"gantry/libctr/core/transfer"
)

func push(s subject) {
	ref, index, _, _ := s.fillIndex("1")
	s.pull(ref, &transfer.ImageStore{Name: ref})
	to := s.registry.Host + "/pushed/here:2"
	h := &heard{}
	s.must(s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: ref}, &transfer.Registry{Reference: to}, h.options()))
	if got := h.events(""); !slices.Equal(got, []string{"Pushing to OCI Registry (" + to + ")", "Completed push to OCI Registry (" + to + ")"}) {
		s.Errorf("sentences %q", got)
	}
	if got := h.events(ref); !slices.Equal(got, []string{"pushing content", "pushed content"}) {
		s.Errorf("events of the image %q", got)
	}
	if got := h.events(manifest.Ref(index)); len(got) < 2 || got[0] != "waiting" || got[len(got)-1] != "complete" {
		s.Errorf("events of the index %q", got)
	}
	s.pull(to, &transfer.ImageStore{Name: to})
	img, err := s.Images.Get(s.ctx, to)
	s.must(err)
	if img.Target.Digest != index.Digest {
		s.Errorf("came back as %v", img.Target)
	}
	h = &heard{}
	s.must(s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: ref}, &transfer.Registry{Reference: to}, h.options()))
	if got := h.events(manifest.Ref(index)); !slices.Equal(got, []string{"waiting", "already exists"}) {
		s.Errorf("events of a second push %q", got)
	}
	s.is("push of nothing", s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: "no"}, &transfer.Registry{Reference: to}, transfer.Options{}), errdefs.ErrNotFound)
}

func pushPrivate(s subject) {
	ref, _ := s.fill("1")
	s.pull(ref, &transfer.ImageStore{Name: ref})
	to := s.private.Host + "/pushed/private:1"
	if err := s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: ref}, &transfer.Registry{Reference: to}, transfer.Options{}); err == nil {
		s.Error("pushed without credentials")
	}
	s.must(s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: ref}, &transfer.Registry{Reference: to, Credentials: account{Secret: secret}}, transfer.Options{}))
}

func pushPlatform(s subject) {
	ref, _, _, _ := s.fillIndex("1")
	platform := []ocispec.Platform{{OS: "linux", Architecture: runtime.GOARCH}}
	s.pull(ref, &transfer.ImageStore{Name: ref, Platforms: platform})
	to := s.registry.Host + "/pushed/part:1"
	err := s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: ref}, &transfer.Registry{Reference: to}, transfer.Options{})
	s.is("push of what is not there", err, errdefs.ErrNotFound)
	// The registry wants all that an index names.
	err = s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: ref, Platforms: platform}, &transfer.Registry{Reference: to}, transfer.Options{})
	if err == nil || !strings.Contains(err.Error(), "missing in your target registry") {
		s.Errorf("push of a part: %v", err)
	}
}

func tag(s subject) {
	ref, want := s.fill("1")
	s.pull(ref, &transfer.ImageStore{Name: ref})
	to := &transfer.ImageStore{Name: "other:1", Labels: map[string]string{"x": "y"}}
	for range 2 { // the second replaces it
		s.must(s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: ref}, to, transfer.Options{}))
	}
	img, err := s.Images.Get(s.ctx, "other:1")
	s.must(err)
	if img.Target.Digest != want.Digest || img.Labels["x"] != "y" {
		s.Errorf("image %+v", img)
	}
	s.is("tag of nothing", s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: "no"}, to, transfer.Options{}), errdefs.ErrNotFound)
	s.noLeases()
}
