package server

import (
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// Config says what the core serves, and where. The TOML keys are containerd's;
// fields without one are the embedder's. It is constant once New has returned.
type Config struct {
	// Version of the file's format: 2 or 3. In both, plugins are named by their URI.
	Version int `toml:"version"`
	// Root keeps what outlives a boot: content, snapshots, metadata.
	Root string `toml:"root"`
	// State keeps what does not: bundles, sockets.
	State string `toml:"state"`
	// TempDir is given to the core's process as TMPDIR when set.
	TempDir string `toml:"temp"`

	GRPC    GRPCConfig    `toml:"grpc"`
	TTRPC   SocketConfig  `toml:"ttrpc"`
	Debug   DebugConfig   `toml:"debug"`
	Metrics MetricsConfig `toml:"metrics"`

	// DisabledPlugins and RequiredPlugins are plugin URIs. A required plugin that
	// is missing or fails ends New with its error.
	DisabledPlugins []string               `toml:"disabled_plugins"`
	RequiredPlugins []string               `toml:"required_plugins"`
	ProxyPlugins    map[string]ProxyPlugin `toml:"proxy_plugins"`
	// Plugins holds each plugin's table, by URI.
	Plugins map[string]any `toml:"plugins"`

	// OOMScore is written to the process's oom_score_adj by the stand-alone server, 0 leaves it.
	OOMScore int `toml:"oom_score"`
	// Subreaper makes the stand-alone server adopt orphans.
	Subreaper bool `toml:"subreaper"`
	// PluginDir and Imports are known and refused when set: nothing is loaded at
	// run time.
	PluginDir string   `toml:"plugin_dir"`
	Imports   []string `toml:"imports"`
	// Cgroup and Timeouts are containerd's; Timeouts holds durations by name.
	Timeouts map[string]string `toml:"timeouts"`

	// Log takes the core's log; nil is slog's default.
	Log *slog.Logger `toml:"-"`
	// Tracing makes a span of every call that the core serves; nil makes none.
	Tracing trace.TracerProvider `toml:"-"`
	// ShimDir is searched for shim binaries before PATH; "" is the directory of
	// the running executable.
	ShimDir string `toml:"-"`
	// Binary is what shims are told to be the core's executable (their
	// -publish-binary); "" is the running one.
	Binary string `toml:"-"`
	// Build names the core to clients and shims.
	Build Build `toml:"-"`
	// StopTimeout bounds the wait for running calls when the server stops; 0 is 5 s.
	StopTimeout time.Duration `toml:"-"`
}

// Build is the version and revision that the version service answers.
type Build struct{ Version, Revision string }

// GRPCConfig is the clients' socket. An empty address is <State>/core.sock.
type GRPCConfig struct {
	Address        string `toml:"address"`
	UID            int    `toml:"uid"`
	GID            int    `toml:"gid"`
	MaxRecvMessage int    `toml:"max_recv_message_size"` // bytes, 0 is 16 MiB
	MaxSendMessage int    `toml:"max_send_message_size"`

	// The TCP listener is known by name and refused: it has no authentication.
	TCPAddress string `toml:"tcp_address"`
}

// SocketConfig is the shims' socket. An empty address is the gRPC address + ".ttrpc".
type SocketConfig struct {
	Address string `toml:"address"`
	UID     int    `toml:"uid"`
	GID     int    `toml:"gid"`
}

// DebugConfig is a listener for profiles; an absolute path is a unix socket,
// anything else a TCP address, "" none.
type DebugConfig struct {
	Address string `toml:"address"`
	UID     int    `toml:"uid"`
	GID     int    `toml:"gid"`
	Level   string `toml:"level"` // debug turns on the shims' debug log
	Format  string `toml:"format"`
}

// MetricsConfig is a listener for Prometheus, a TCP address, "" none.
type MetricsConfig struct {
	Address       string `toml:"address"`
	GRPCHistogram bool   `toml:"grpc_histogram"`
}

// ProxyPlugin is a plugin in another process: Type "snapshot", "content" or
// "diff", reached by gRPC at Address.
type ProxyPlugin struct {
	Type         string            `toml:"type"`
	Address      string            `toml:"address"`
	Platform     string            `toml:"platform"`
	Exports      map[string]string `toml:"exports"`
	Capabilities []string          `toml:"capabilities"`
}
