package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"gantry/api/errdefs"
)

// Default names of what New completes an embedder's Config with.
const (
	defaultMessageSize = 16 << 20
	defaultStopTimeout = 5 * time.Second
)

// withDefaults completes what was left empty.
func (c Config) withDefaults() Config {
	set := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	set(&c.GRPC.Address, filepath.Join(c.State, "core.sock"))
	if c.TTRPC.Address == "" {
		c.TTRPC.Address = c.GRPC.Address + ".ttrpc"
		if c.TTRPC.UID == 0 && c.TTRPC.GID == 0 { // who may use the one may use the other
			c.TTRPC.UID, c.TTRPC.GID = c.GRPC.UID, c.GRPC.GID
		}
	}
	self, err := os.Executable()
	if err == nil {
		set(&c.Binary, self)
		set(&c.ShimDir, filepath.Dir(self))
	}
	set(&c.Build.Version, "0.0.0")
	if c.GRPC.MaxRecvMessage == 0 {
		c.GRPC.MaxRecvMessage = defaultMessageSize
	}
	if c.GRPC.MaxSendMessage == 0 {
		c.GRPC.MaxSendMessage = defaultMessageSize
	}
	if c.StopTimeout == 0 {
		c.StopTimeout = defaultStopTimeout
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c
}

// Validate reports every problem at once.
func (c Config) Validate() error {
	var problems []error
	bad := func(format string, a ...any) { problems = append(problems, fmt.Errorf(format, a...)) }
	if c.Version != 0 && c.Version != 3 {
		bad("version %d is unknown", c.Version)
	}
	for name, dir := range map[string]string{"root": c.Root, "state": c.State} {
		if !filepath.IsAbs(dir) {
			bad("%s %q must be an absolute path", name, dir)
		}
	}
	if c.Root == c.State {
		bad("root and state must be different directories")
	}
	for name, path := range map[string]string{"grpc.address": c.GRPC.Address, "ttrpc.address": c.TTRPC.Address, "temp": c.TempDir} {
		if path != "" && !filepath.IsAbs(path) {
			bad("%s %q must be an absolute path", name, path)
		}
	}
	if c.GRPC.MaxRecvMessage < 0 || c.GRPC.MaxSendMessage < 0 {
		bad("grpc: a message size is negative")
	}
	c.checkTCP(bad)
	c.checkProcessors(bad)
	if c.PluginDir != "" {
		bad("plugin_dir is not supported: nothing is loaded into a running core; see proxy_plugins")
	}
	for _, uri := range slices.Concat(c.DisabledPlugins, c.RequiredPlugins) {
		if !strings.Contains(uri, ".") {
			bad("plugin %q is no URI such as io.containerd.x.vx.id", uri)
		}
	}
	for name, p := range c.ProxyPlugins {
		if p.Type == "" || !filepath.IsAbs(strings.TrimPrefix(p.Address, "unix://")) {
			bad("proxy_plugins.%s needs a type and the absolute path of a socket", name)
		}
	}
	if _, err := timeoutsOf(c.Timeouts); err != nil {
		bad("%w", err)
	}
	if len(problems) == 0 {
		return nil
	}
	return errdefs.InvalidArgument("configuration: %w", errors.Join(problems...))
}

// reportIgnored tells of settings that are known and do nothing.
func (c Config) reportIgnored(ctx context.Context) {
	known := timeoutDefaults.named()
	for name := range c.Timeouts {
		if known[name] == nil {
			c.Log.WarnContext(ctx, "timeout in configuration is not known", "timeout", name)
		}
	}
	if c.Debug.TraceID {
		c.Log.WarnContext(ctx, "debug.log_trace_id does nothing")
	}
}

func (c Config) checkTCP(bad func(string, ...any)) {
	g := c.GRPC
	if g.TCPTLSName != "" {
		bad("grpc.tcp_tls_common_name is not supported: it chooses a certificate on Windows")
	}
	if g.TCPAddress != "" && (g.TCPTLSCA == "" || g.TCPTLSCert == "" || g.TCPTLSKey == "") {
		bad("grpc.tcp_address needs tcp_tls_ca, tcp_tls_cert and tcp_tls_key: who can use the core is root")
	}
}
