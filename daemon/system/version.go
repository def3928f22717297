package system

import (
	"context"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/docker/docker/api/types"

	"gantry/api/rest"
	"gantry/api/version"
)

// Version tells the versions of the engine and of what it stands on.
func (s *Service) Version(ctx context.Context) (types.Version, error) {
	kernel, built, core := kernelRelease(), buildTime(), s.coreVersion(ctx)
	v := types.Version{
		Version:       version.Version,
		APIVersion:    rest.MaxVersion,
		MinAPIVersion: s.cfg.Load().MinAPIVersion,
		GitCommit:     version.Commit,
		GoVersion:     runtime.Version(),
		Os:            runtime.GOOS,
		Arch:          runtime.GOARCH,
		KernelVersion: kernel,
		Experimental:  s.cfg.Load().Experimental,
		BuildTime:     built,
		Components: []types.ComponentVersion{
			{Name: "Engine", Version: version.Version, Details: map[string]string{
				"GitCommit":     version.Commit,
				"ApiVersion":    rest.MaxVersion,
				"MinAPIVersion": s.cfg.Load().MinAPIVersion,
				"GoVersion":     runtime.Version(),
				"Os":            runtime.GOOS,
				"Arch":          runtime.GOARCH,
				"KernelVersion": kernel,
				"Experimental":  strconv.FormatBool(s.cfg.Load().Experimental),
				"BuildTime":     built,
			}},
			component(s.cfg.Load().CoreName, core.version, core.revision),
			component("gantry shim", version.Version, version.Commit),
			component("gantry runtime", version.Version, version.Commit),
			component("gantry-init", version.Version, version.Commit),
		},
	}
	v.Platform.Name = "Gantry Engine"
	return v, nil
}

func component(name, version, commit string) types.ComponentVersion {
	return types.ComponentVersion{Name: name, Version: version, Details: map[string]string{"GitCommit": commit}}
}

type coreVersion struct{ version, revision string }

// coreVersion asks the core, for a short time: a core that does not answer is worth
// knowing about, and is no reason to know nothing else.
func (s *Service) coreVersion(ctx context.Context) coreVersion {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	v, revision, err := s.deps.Core.Version(ctx)
	if err != nil {
		s.log.WarnContext(ctx, "ask the core for its version", "err", err)
		return coreVersion{"N/A", "N/A"}
	}
	return coreVersion{v, revision}
}

// buildTime is the time of the commit that was built, "" when it is not known.
func buildTime() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.time" {
			return s.Value
		}
	}
	return ""
}
