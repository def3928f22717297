package config

import (
	"context"
	"strings"

	"gantry/api/errdefs"
)

// newest is the latest version that can be read: 4 is containerd 2.4's, which has
// the listeners' settings among the plugins; they go back to the sections that
// earlier versions have.
const newest = 4

// migrate brings a tree to Version, step by step. Without a number it is version 1.
func (r Reader) migrate(ctx context.Context, name string, tree Tree) error {
	version := 1
	if v, ok := tree["version"].(int64); ok && v != 0 {
		version = int(v)
	}
	if version < 1 || version > newest {
		return errdefs.InvalidArgument("configuration %s: version %d is unknown, the latest is %d", name, version, newest)
	}
	if version == newest {
		listenersFromPlugins(tree)
	}
	for from := version; from < Version; from++ {
		if from == 1 {
			r.nameByURI(ctx, name, tree)
		}
		plugins, _ := tree["plugins"].(Tree)
		for _, m := range r.Migrations {
			if err := m(ctx, from, plugins); err != nil {
				return errdefs.InvalidArgument("configuration %s: version %d: %w", name, from, err)
			}
		}
	}
	if version < Version && len(tree) > 0 {
		r.log().InfoContext(ctx, "configuration is of an earlier version", "file", name, "version", version)
	}
	tree["version"] = int64(Version)
	return nil
}

// nameByURI gives plugins of version 1, which knows them by short ids, their URIs.
func (r Reader) nameByURI(ctx context.Context, name string, tree Tree) {
	rename := func(id string) string {
		uri, guessed := uriOf(id)
		if guessed {
			r.log().WarnContext(ctx, "ambiguous plugin name in configuration of version 1", "file", name, "plugin", id, "taken for", uri)
		}
		return uri
	}
	if plugins, ok := tree["plugins"].(Tree); ok {
		renamed := Tree{}
		for id, v := range plugins {
			renamed[rename(id)] = v
		}
		tree["plugins"] = renamed
	}
	for _, key := range []string{"disabled_plugins", "required_plugins"} {
		list, _ := tree[key].([]any)
		for i, v := range list {
			if id, ok := v.(string); ok {
				list[i] = rename(id)
			}
		}
	}
}

// shortIDs are the plugins that had settings in version 1.
var shortIDs = map[string]string{
	"aufs":      "io.containerd.snapshotter.v1.aufs",
	"bolt":      "io.containerd.metadata.v1.bolt",
	"btrfs":     "io.containerd.snapshotter.v1.btrfs",
	"cgroups":   "io.containerd.monitor.v1.cgroups",
	"cri":       "io.containerd.grpc.v1.cri",
	"devmapper": "io.containerd.snapshotter.v1.devmapper",
	"linux":     "io.containerd.runtime.v1.linux",
	"native":    "io.containerd.snapshotter.v1.native",
	"opt":       "io.containerd.internal.v1.opt",
	"otlp":      "io.containerd.tracing.processor.v1.otlp",
	"overlayfs": "io.containerd.snapshotter.v1.overlayfs",
	"restart":   "io.containerd.internal.v1.restart",
	"scheduler": "io.containerd.gc.v1.scheduler",
	"task":      "io.containerd.runtime.v2.task",
	"tracing":   "io.containerd.internal.v1.tracing",
	"zfs":       "io.containerd.snapshotter.v1.zfs",
}

// uriOf names the plugin of a short id; guessed says that the id may mean another.
func uriOf(id string) (uri string, guessed bool) {
	if strings.Contains(id, ".") {
		return id, false
	}
	if uri, ok := shortIDs[id]; ok {
		return uri, false
	}
	if strings.HasSuffix(id, "-service") {
		return "io.containerd.service.v1." + id, false
	}
	return "io.containerd.grpc.v1." + id, true
}

// listeners maps, by plugin of version 4, its keys to those of a section.
var listeners = map[string]struct {
	section string
	keys    map[string]string
}{
	"io.containerd.server.v1.grpc": {"grpc", same("address", "uid", "gid", "max_recv_message_size", "max_send_message_size")},
	"io.containerd.server.v1.grpc-tcp": {"grpc", map[string]string{"address": "tcp_address", "tls_ca": "tcp_tls_ca",
		"tls_cert": "tcp_tls_cert", "tls_key": "tcp_tls_key", "tls_common_name": "tcp_tls_common_name"}},
	"io.containerd.server.v1.ttrpc":            {"ttrpc", same("address", "uid", "gid")},
	"io.containerd.server.v1.debug":            {"debug", same("address", "uid", "gid")},
	"io.containerd.server.v1.metrics":          {"metrics", same("address")},
	"io.containerd.metrics.v1.grpc-prometheus": {"metrics", same("grpc_histogram")},
}

func same(keys ...string) map[string]string {
	m := map[string]string{}
	for _, k := range keys {
		m[k] = k
	}
	return m
}

func listenersFromPlugins(tree Tree) {
	plugins, _ := tree["plugins"].(Tree)
	for uri, l := range listeners {
		settings, ok := plugins[uri].(Tree)
		if !ok {
			continue
		}
		delete(plugins, uri)
		section := table(tree, l.section)
		for key, v := range settings {
			if to, ok := l.keys[key]; ok {
				section[to] = v
			}
		}
	}
}
