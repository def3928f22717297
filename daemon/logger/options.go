package logger

import (
	"fmt"
	"maps"
	"strconv"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/go-units"
)

// Settings are a container's log options, read.
type Settings struct {
	Driver string
	Files
	// Remote says that the files are a cache: the log itself is somebody else's, and a
	// forwarder takes it there.
	Remote bool
	// Hidden says that the files are not for `docker logs`.
	Hidden bool
	// NonBlocking says that the process is never held up by its log: what Buffer bytes
	// do not hold is dropped.
	NonBlocking bool
	Buffer      int64 // bytes
}

// Merge completes a container's log configuration with the daemon's: an empty type is
// the daemon's, and where the types agree missing options are too. Those of the cache
// are taken over in any case.
func Merge(own, daemon containertypes.LogConfig) containertypes.LogConfig {
	out := containertypes.LogConfig{Type: own.Type, Config: map[string]string{}}
	if out.Type == "" {
		out.Type = daemon.Type
	}
	for k, v := range daemon.Config {
		if out.Type == daemon.Type || cacheKeys[k] {
			out.Config[k] = v
		}
	}
	maps.Copy(out.Config, own.Config)
	return out
}

// Parse checks a merged configuration; its errors are InvalidArgument's matter.
func Parse(c containertypes.LogConfig) (Settings, error) {
	if c.Type == None {
		return Settings{Driver: None}, nil
	}
	s, err := parseCommon(c.Config)
	if err != nil {
		return Settings{}, err
	}
	d, ok := drivers[c.Type]
	if !ok {
		return Settings{}, fmt.Errorf("logger: no log driver named '%s' is registered", c.Type)
	}
	s.Driver, s.Remote = c.Type, d.files == nil
	if err := d.check(own(c.Config)); err != nil {
		return Settings{}, err
	}
	files := d.files
	if s.Remote {
		files = cacheFiles
		s.Hidden = cacheDisabled(c.Config)
	}
	if s.Files, err = files(c.Config); err != nil {
		return Settings{}, initError(err)
	}
	if err := checkAttrs(c.Config); err != nil {
		return Settings{}, initError(err)
	}
	return s, nil
}

// ParseNew is Parse for a container that is to be created: what its driver needs on this
// machine must be there.
func ParseNew(c containertypes.LogConfig) (Settings, error) {
	s, err := Parse(c)
	if err != nil {
		return s, err
	}
	if present := drivers[c.Type].present; present != nil {
		err = present(c.Config)
	}
	return s, err
}

// initError says of a value what Docker says when a container with it is started.
func initError(err error) error {
	return fmt.Errorf("failed to initialize logging driver: %w", err)
}

// commonKeys are options of every driver, beside those of the cache.
var commonKeys = map[string]bool{"mode": true, "max-buffer-size": true}

// own takes off the options that are not the driver's own.
func own(c map[string]string) map[string]string {
	out := maps.Clone(c)
	maps.DeleteFunc(out, func(k, _ string) bool { return commonKeys[k] || cacheKeys[k] })
	return out
}

// defaultBuffer is max-buffer-size where it is not given.
const defaultBuffer = 1e6

// maxBuffer bounds what one shim holds.
const maxBuffer = 1 << 30

func parseCommon(c map[string]string) (s Settings, err error) {
	switch mode := containertypes.LogMode(c["mode"]); mode {
	case containertypes.LogModeUnset, containertypes.LogModeBlocking:
	case containertypes.LogModeNonBlock:
		s.NonBlocking, s.Buffer = true, defaultBuffer
	default:
		return s, fmt.Errorf("logger: logging mode not supported: %s", mode)
	}
	if size, set := c["max-buffer-size"]; set {
		if !s.NonBlocking {
			return s, fmt.Errorf("logger: max-buffer-size option is only supported with 'mode=%s'", containertypes.LogModeNonBlock)
		}
		if s.Buffer, err = units.RAMInBytes(size); err != nil {
			return s, fmt.Errorf("error parsing option max-buffer-size: %w", err)
		}
		s.Buffer = min(s.Buffer, maxBuffer)
	}
	if v := c[cacheDisabledKey]; v != "" {
		if _, err := strconv.ParseBool(v); err != nil {
			return s, fmt.Errorf("invalid value for option %s: %s", cacheDisabledKey, v)
		}
	}
	return s, nil
}
