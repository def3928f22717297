package image

import (
	"fmt"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
)

// anyWith matches every platform and prefers those of the matcher.
type anyWith struct{ platforms.MatchComparer }

func (anyWith) Match(ocispec.Platform) bool { return true }

// matcher answers what a request may use: only p when it is given, else anything,
// the host's first.
func (s *Service) matcher(p *ocispec.Platform) platforms.MatchComparer {
	if p != nil {
		return platforms.OnlyStrict(*p)
	}
	return anyWith{s.host}
}

func noPlatform(name string, p *ocispec.Platform) error {
	what := "any platform"
	if p != nil && p.OS != "" {
		what = fmt.Sprintf("the specified platform (%s)", platforms.FormatAll(*p))
	}
	return errdefs.NotFound("image with reference %s was found but does not provide %s", name, what)
}
