package daemon

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"gantry/daemon/config"
)

// reloadAuthorization changes the plugins, if others are wanted and all of them answer.
func (d *Daemon) reloadAuthorization(c *config.Config, changed []string) error {
	if !slices.Contains(changed, "authorization-plugins") {
		return nil
	}
	chain, err := d.Authorization.Wake(context.Background(), c.Authorization)
	if err != nil {
		return err
	}
	d.Authorization.Use(chain)
	return nil
}

// reloaded is what the event of a reload tells, in dockerd's names and forms.
func (d *Daemon) reloaded(c *config.Config) map[string]string {
	return map[string]string{
		"name": d.hostname, "debug": strconv.FormatBool(c.Debug), "labels": list(c.Labels),
		"live-restore": strconv.FormatBool(c.LiveRestore), "shutdown-timeout": strconv.Itoa(c.ShutdownTimeout),
		"default-runtime": c.DefaultRuntime, "runtimes": paths(c.Runtimes),
		"default-shm-size": strconv.FormatInt(c.ShmSize, 10), "default-ipc-mode": c.IpcMode,
		"default-cgroupns-mode": d.cgroupnsMode(c), "features": fmt.Sprint(c.Features),
		"registry-mirrors": list(c.Mirrors), "insecure-registries": list(c.Insecure),
		"max-concurrent-downloads": strconv.Itoa(c.MaxDownloads), "max-concurrent-uploads": strconv.Itoa(c.MaxUploads),
		"max-download-attempts": strconv.Itoa(c.DownloadAttempts),
	}
}

// cgroupnsMode is the default of containers.
func (d *Daemon) cgroupnsMode(c *config.Config) string {
	switch {
	case c.CgroupnsMode != "":
		return c.CgroupnsMode
	case d.Host.CgroupV2:
		return "private"
	}
	return "host"
}

// list is a JSON list, as the event has lists.
func list(words []string) string {
	raw, _ := json.Marshal(append([]string{}, words...)) // strings can always be encoded
	return string(raw)
}

// paths names runtimes with their programs: "crun:/usr/bin/crun".
func paths(runtimes map[string]config.Runtime) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(runtimes)) {
		words = append(words, name+":"+runtimes[name].Path)
	}
	return strings.Join(words, " ")
}
