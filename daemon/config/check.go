package config

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/api/rest"
	"gantry/daemon/logger"
	"gantry/daemon/registry"
	"gantry/daemon/userns"
)

// check reports every problem of c.
func (c *Config) check() error {
	return errors.Join(slices.Concat(
		c.checkAccess(), c.checkDefaults(), c.checkNetwork(), c.checkRegistry())...)
}

func (c *Config) checkAccess() (errs []error) {
	for _, h := range c.Hosts {
		if _, err := completeHost(h, c.UseTLS()); err != nil {
			errs = append(errs, err)
		}
		if strings.HasPrefix(h, "tcp://") && !c.UseTLS() && !c.TLS.Set && !c.TLSVerify.Set {
			errs = append(errs, fmt.Errorf("%s: a tcp address without TLS verification is refused: anyone who reaches it is root here; give --tlsverify with certificates, or --tls=false to say that this is meant", h))
		}
	}
	errs = append(errs, c.checkCertificates()...)
	if !slices.Contains([]string{"debug", "info", "warn", "error", "fatal"}, c.LogLevel) {
		errs = append(errs, fmt.Errorf("invalid logging level: %s", c.LogLevel))
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		errs = append(errs, fmt.Errorf("invalid log format: %s", c.LogFormat))
	}
	if c.PluginNamespace == c.Namespace {
		errs = append(errs, errors.New("containers namespace and plugins namespace cannot be the same"))
	}
	if _, _, err := net.SplitHostPort(c.MetricsAddr); c.MetricsAddr != "" && err != nil {
		errs = append(errs, fmt.Errorf("invalid metrics-addr: %w", err))
	}
	if c.Namespace == "" {
		errs = append(errs, errors.New("containerd-namespace must not be empty"))
	}
	if c.ShutdownTimeout < -1 {
		errs = append(errs, fmt.Errorf("invalid shutdown timeout: %d", c.ShutdownTimeout))
	}
	if err := rest.CheckMinVersion(c.MinAPIVersion); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// checkCertificates wants what TLS on tcp addresses cannot go without.
func (c *Config) checkCertificates() (errs []error) {
	if !c.UseTLS() || !slices.ContainsFunc(c.Hosts, func(h string) bool { return strings.HasPrefix(h, "tcp://") }) {
		return nil
	}
	if c.TLSCert == "" || c.TLSKey == "" {
		errs = append(errs, errors.New("tls needs tlscert and tlskey"))
	}
	if c.TLSVerify.Value && c.TLSCACert == "" {
		errs = append(errs, errors.New("tlsverify needs tlscacert, which signs the certificates of clients; --tlsverify=false lets in whoever connects"))
	}
	return errs
}

func (c *Config) checkDefaults() (errs []error) {
	if !slices.Contains([]string{"overlayfs", "native"}, c.StorageDriver) {
		errs = append(errs, fmt.Errorf("storage driver %q is not supported: want overlayfs or native", c.StorageDriver))
	}
	if c.IpcMode != "private" && c.IpcMode != "shareable" {
		errs = append(errs, fmt.Errorf("IPC mode %q is not supported as a default value for default-ipc-mode: want private or shareable", c.IpcMode))
	}
	if !slices.Contains([]string{"", "private", "host"}, c.CgroupnsMode) {
		errs = append(errs, fmt.Errorf("default cgroup namespace mode (%v) is invalid; use \"host\" or \"private\"", c.CgroupnsMode))
	}
	errs = append(errs, c.checkCgroups()...)
	if err := userns.CheckOption(c.UsernsRemap); err != nil {
		errs = append(errs, err)
	}
	if c.UsernsRemap != "" && c.StorageDriver != "overlayfs" {
		errs = append(errs, fmt.Errorf("userns-remap needs the storage driver overlayfs, not %s", c.StorageDriver))
	}
	if c.ShmSize <= 0 {
		errs = append(errs, fmt.Errorf("invalid default shm size: %d", c.ShmSize))
	}
	if _, err := logger.Parse(containertypes.LogConfig{Type: c.LogDriver, Config: c.LogOpts}); err != nil {
		errs = append(errs, fmt.Errorf("failed to set log opts: %w", err))
	}
	for _, l := range c.Labels {
		if k, _, ok := strings.Cut(l, "="); !ok || k == "" {
			errs = append(errs, fmt.Errorf("bad attribute format: %s", l))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Runtimes)) {
		r := c.Runtimes[name]
		switch {
		case r.Path == "" && r.Type == "":
			errs = append(errs, fmt.Errorf("runtime %s: either a path or a runtimeType is needed", name))
		case r.Type != "" && (r.Path != "" || len(r.Args) > 0):
			errs = append(errs, fmt.Errorf("runtime %s: path and runtimeArgs exclude runtimeType", name))
		case r.Path != "" && len(r.Options) > 0:
			errs = append(errs, fmt.Errorf("runtime %s: options need a runtimeType", name))
		}
	}
	if _, ok := c.Runtimes[c.DefaultRuntime]; !ok && !slices.Contains(BuiltinRuntimes, c.DefaultRuntime) && !shimName(c.DefaultRuntime) {
		errs = append(errs, fmt.Errorf("specified default runtime '%s' does not exist", c.DefaultRuntime))
	}
	if p := c.SeccompProfile; p != "builtin" && p != "unconfined" {
		if _, err := os.Stat(p); err != nil {
			errs = append(errs, fmt.Errorf("opening seccomp profile (%s) failed: %w", p, err))
		}
	}
	return errs
}

// shimName says whether a runtime may be a shim by its name alone, such as io.containerd.kata.v2.
func shimName(s string) bool {
	prefix, _, dotted := strings.Cut(s, ".")
	return dotted && prefix != "" && !strings.Contains(s, "/")
}

func (c *Config) checkNetwork() (errs []error) {
	if c.BIP != "" {
		if p, err := netip.ParsePrefix(c.BIP); err != nil || !p.Addr().Is4() {
			errs = append(errs, fmt.Errorf("invalid --bip %q: want an IPv4 address with a prefix length", c.BIP))
		}
		if c.Bridge == "none" {
			errs = append(errs, errors.New("you specified --bip with --bridge none: they exclude each other"))
		}
	}
	if len(c.Bridge) > 15 || strings.ContainsAny(c.Bridge, "/ \t\n") {
		errs = append(errs, fmt.Errorf("invalid bridge name %q", c.Bridge))
	}
	if c.MTU < 68 || c.MTU > 65535 {
		errs = append(errs, fmt.Errorf("invalid MTU: %d", c.MTU))
	}
	if c.FirewallBackend != "" && c.FirewallBackend != "nftables" {
		errs = append(errs, fmt.Errorf("firewall backend %q is not supported: want nftables", c.FirewallBackend))
	}
	for _, d := range c.DNS {
		if _, err := netip.ParseAddr(d); err != nil {
			errs = append(errs, fmt.Errorf("%s is not an ip address", d))
		}
	}
	for _, p := range c.AddressPools {
		if !p.Base.IsValid() || p.Size < p.Base.Bits() || p.Size > p.Base.Addr().BitLen() {
			errs = append(errs, fmt.Errorf("invalid address pool base=%v,size=%d", p.Base, p.Size))
		}
	}
	return errs
}

func (c *Config) checkRegistry() (errs []error) {
	if c.MaxDownloads < 1 {
		errs = append(errs, fmt.Errorf("invalid max concurrent downloads: %d", c.MaxDownloads))
	}
	if c.MaxUploads < 1 {
		errs = append(errs, fmt.Errorf("invalid max concurrent uploads: %d", c.MaxUploads))
	}
	if c.DownloadAttempts < 1 {
		errs = append(errs, fmt.Errorf("invalid max download attempts: %d", c.DownloadAttempts))
	}
	if err := (registry.Config{Insecure: c.Insecure, Mirrors: c.Mirrors}).Validate(); err != nil {
		errs = append(errs, err)
	}
	return errs
}

// UseTLS says whether tcp sockets speak TLS.
func (c *Config) UseTLS() bool { return c.TLS.Value }

// Level is the level of the daemon's log, in the words of --log-level.
func (c *Config) Level() string {
	if c.Debug {
		return "debug"
	}
	return c.LogLevel
}
