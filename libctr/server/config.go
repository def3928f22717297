package server

import (
	"log/slog"
	"time"

	"go.opentelemetry.io/otel/trace"
)

// Config says what the core serves, and where. The TOML keys are containerd's;
// fields without one are the embedder's. It is constant once New has returned.
type Config struct {
	// Version of the file's format, 3 or 0; Load brings earlier ones to it. Plugins are
	// named by their URI.
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
	// Cgroup is what the stand-alone server moves itself to.
	Cgroup CgroupConfig `toml:"cgroup"`
	// Imports are the files that Load has laid over the one that names them.
	Imports []string `toml:"imports"`
	// Timeouts are durations by containerd's names; see Timeouts for those there are.
	Timeouts map[string]string `toml:"timeouts"`
	// PluginDir is known and refused when set: nothing is loaded at run time.
	PluginDir string `toml:"plugin_dir,omitempty"`
	// StreamProcessors are programs that layers of their media types pass through.
	StreamProcessors map[string]StreamProcessor `toml:"stream_processors,omitempty"`

	// Log takes the core's log; nil is slog's default.
	Log *slog.Logger `toml:"-"`
	// Answered, if set, is called after every call that the core serves; it must not block.
	Answered func() `toml:"-"`
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

	// TCPAddress is a further listener, "" for none. Who can use the core is root, so
	// it is only there with a certificate, its key, and the CA of the clients'.
	TCPAddress string `toml:"tcp_address"`
	TCPTLSCA   string `toml:"tcp_tls_ca"`
	TCPTLSCert string `toml:"tcp_tls_cert"`
	TCPTLSKey  string `toml:"tcp_tls_key"`
	// TCPTLSName chooses a certificate on Windows; known and refused.
	TCPTLSName string `toml:"tcp_tls_common_name,omitempty"`
}

// CgroupConfig names the cgroup of the core's own process, below the mounts of all
// hierarchies; "" is where it was started.
type CgroupConfig struct {
	Path string `toml:"path"`
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
	Level   string `toml:"level"`  // debug turns on the shims' debug log
	Format  string `toml:"format"` // of the stand-alone server's log: text or json
	// TraceID in log lines is known and reported: they have it wherever there is one.
	TraceID bool `toml:"log_trace_id,omitempty"`
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
