package config

import (
	"io"
	"reflect"
)

// Reload loads the configuration again for SIGHUP. next is c with the reloadable
// settings replaced; changed names those that differ, ignored the other settings
// that differ and need a restart. On error c stays in force as it is.
func (c *Config) Reload(args []string) (next *Config, changed, ignored []string, err error) {
	fresh, err := Load(args, io.Discard)
	if err != nil {
		return nil, nil, nil, err
	}
	merged := *c
	from, to := fresh.options(), merged.options()
	for i := range to {
		now, then := from[i].target.String(), to[i].target.String()
		name := to[i].key
		switch {
		case now == then && sameMaps(c, fresh, name):
		case !to[i].reload:
			ignored = append(ignored, name)
		default:
			changed = append(changed, name)
			merged.adopt(fresh, name)
		}
	}
	return &merged, changed, ignored, nil
}

// sameMaps compares the settings whose text shows their keys only.
func sameMaps(a, b *Config, key string) bool {
	switch key {
	case "runtimes":
		return reflect.DeepEqual(a.Runtimes, b.Runtimes)
	case "features":
		return reflect.DeepEqual(a.Features, b.Features)
	case "log-opts":
		return reflect.DeepEqual(a.LogOpts, b.LogOpts)
	case "default-ulimits":
		return reflect.DeepEqual(a.Ulimits, b.Ulimits)
	}
	return true
}

// adopt takes one reloadable setting from fresh.
func (c *Config) adopt(fresh *Config, key string) {
	switch key {
	case "shutdown-timeout":
		c.ShutdownTimeout = fresh.ShutdownTimeout
	case "live-restore":
		c.LiveRestore = fresh.LiveRestore
	case "debug":
		c.Debug = fresh.Debug
	case "default-runtime":
		c.DefaultRuntime = fresh.DefaultRuntime
	case "runtimes":
		c.Runtimes = fresh.Runtimes
	case "default-shm-size":
		c.ShmSize = fresh.ShmSize
	case "default-ipc-mode":
		c.IpcMode = fresh.IpcMode
	case "labels":
		c.Labels = fresh.Labels
	case "features":
		c.Features = fresh.Features
	case "registry-mirrors":
		c.Mirrors = fresh.Mirrors
	case "insecure-registries":
		c.Insecure = fresh.Insecure
	case "max-concurrent-downloads":
		c.MaxDownloads = fresh.MaxDownloads
	case "max-concurrent-uploads":
		c.MaxUploads = fresh.MaxUploads
	case "authorization-plugins":
		c.Authorization = fresh.Authorization
	case "max-download-attempts":
		c.DownloadAttempts = fresh.DownloadAttempts
	}
}
