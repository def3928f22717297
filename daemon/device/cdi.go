package device

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	containertypes "github.com/docker/docker/api/types/container"
	systemtypes "github.com/docker/docker/api/types/system"
	specs "github.com/opencontainers/runtime-spec/specs-go"
	"tags.cncf.io/container-device-interface/pkg/cdi"

	"gantry/api/errdefs"
)

// registry is what the CDI specifications say, or why there are none.
type registry struct {
	cache *cdi.Cache
	err   error
}

// openRegistry watches nothing: the directories are read when somebody asks.
func openRegistry(dirs []string) *registry {
	if len(dirs) == 0 {
		return &registry{err: errors.New("no CDI specification directories specified")}
	}
	cache, err := cdi.NewCache(cdi.WithSpecDirs(dirs...), cdi.WithAutoRefresh(false))
	if err != nil {
		err = fmt.Errorf("CDI registry initialization failure: %w", err)
	}
	return &registry{cache, err}
}

func (r *registry) inject(s *specs.Spec, q containertypes.DeviceRequest) error {
	switch {
	case r.err != nil:
		return fmt.Errorf("CDI device injection failed: %w", r.err)
	case q.Count != 0:
		return errdefs.InvalidArgument("unexpected count in CDI device request")
	case len(q.Options) > 0:
		return errdefs.InvalidArgument("unexpected options in CDI device request")
	case len(q.DeviceIDs) == 0:
		return nil
	}
	r.cache.Refresh() //nolint:errcheck // a bad specification is no matter unless it has the device
	if _, err := r.cache.InjectDevices(s, q.DeviceIDs...); err != nil {
		return fmt.Errorf("CDI device injection failed: %w", err)
	}
	return nil
}

func (r *registry) list() (found []systemtypes.DeviceInfo, warnings []string) {
	if r.err != nil {
		return nil, []string{fmt.Sprintf("CDI cache initialization failed: %v", r.err)}
	}
	r.cache.Refresh() //nolint:errcheck // GetErrors tells them
	failed := r.cache.GetErrors()
	for _, path := range slices.Sorted(maps.Keys(failed)) {
		for _, err := range failed[path] {
			if !errors.Is(err, fs.ErrNotExist) {
				warnings = append(warnings, fmt.Sprintf("CDI: Error associated with spec file %s: %v", path, err))
			}
		}
	}
	for _, name := range r.cache.ListDevices() {
		found = append(found, systemtypes.DeviceInfo{Source: nameCDI, ID: name})
	}
	return found, warnings
}
