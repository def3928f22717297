package container

import (
	"context"
	"io"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/errdefs"
)

// The file system of a container from outside. Refused by name until it is there; a
// container that does not exist is told first.

// Changes answers `docker diff`.
func (s *Service) Changes(_ context.Context, ref string) ([]containertypes.FilesystemChange, error) {
	return nil, s.notYet(ref, "docker diff")
}

// Export answers `docker export`.
func (s *Service) Export(_ context.Context, ref string, _ io.Writer) error {
	return s.notYet(ref, "docker export")
}

// StatPath answers the first step of `docker cp`.
func (s *Service) StatPath(_ context.Context, ref, _ string) (containertypes.PathStat, error) {
	return containertypes.PathStat{}, s.notYet(ref, "docker cp")
}

// CopyFrom answers `docker cp` out of a container.
func (s *Service) CopyFrom(_ context.Context, ref, _ string) (io.ReadCloser, containertypes.PathStat, error) {
	return nil, containertypes.PathStat{}, s.notYet(ref, "docker cp")
}

// CopyTo answers `docker cp` into a container.
func (s *Service) CopyTo(_ context.Context, ref, _ string, _ containertypes.CopyToContainerOptions, _ io.Reader) error {
	return s.notYet(ref, "docker cp")
}

func (s *Service) notYet(ref, what string) error {
	if _, err := s.find(ref); err != nil {
		return err
	}
	return errdefs.NotImplemented("%s is not supported by this engine yet", what)
}
