package config

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/pflag"
)

// option binds one setting to its flag and its key in the file. A file value is
// unmarshalled into target, a flag value set through it, so every target is a
// pflag.Value that is a json.Unmarshaler too.
type option struct {
	flag, short string
	key         string // in the file; "" when it has none
	reload      bool   // SIGHUP applies it
	usage       string
	target      target
}

type target interface {
	pflag.Value
	json.Unmarshaler
}

// refused are options of dockerd that would change what a container or a network
// is, and that this engine does not have; given, they are an error that names them.
var refused = []string{
	"cri-containerd", "rootless", "selinux-enabled", "fixed-cidr", "fixed-cidr-v6",
	"default-gateway", "default-gateway-v6", "default-network-opt", "ipv6", "bip6", "icc",
	"bridge-accept-fwmark", "allow-direct-routing", "storage-opt",
	"api-cors-header", "graph", "cluster-store", "cluster-advertise", "cluster-store-opt", "builder",
}

// accepted are options that are taken and do nothing here, with a warning.
var accepted = []string{
	"cpu-rt-period", "cpu-rt-runtime", "node-generic-resource", "network-control-plane-mtu",
	"network-diagnostic-port", "swarm-default-advertise-addr", "swarm-raft-heartbeat-tick",
	"swarm-raft-election-tick", "allow-nondistributable-artifacts", "oom-score-adjust", "restart",
	"userland-proxy-path",
}

// switches are those of refused and accepted that stand without a value.
var switches = []string{
	"cri-containerd", "rootless", "selinux-enabled", "ipv6", "icc", "allow-direct-routing", "restart",
}

// plurals maps a repeatable flag to its key in the file where the two differ.
var plurals = map[string]string{
	"storage-opt": "storage-opts", "default-network-opt": "default-network-opts",
	"node-generic-resource": "node-generic-resources", "cluster-store-opt": "cluster-store-opts",
}

// options lists every setting; the order is that of --help.
func (c *Config) options() []option {
	return []option{
		{flag: "host", short: "H", key: "hosts", usage: "Daemon socket(s) to connect to", target: list(&c.Hosts, nil)},
		{flag: "group", short: "G", key: "group", usage: "Group for the unix socket", target: text(&c.Group)},
		{flag: "tls", key: "tls", usage: "Use TLS; implied by --tlsverify", target: tristate(&c.TLS)},
		{flag: "tlsverify", key: "tlsverify", usage: "Use TLS and verify the remote", target: tristate(&c.TLSVerify)},
		{flag: "tlscacert", key: "tlscacert", usage: "Trust certs signed only by this CA", target: text(&c.TLSCACert)},
		{flag: "tlscert", key: "tlscert", usage: "Path to TLS certificate file", target: text(&c.TLSCert)},
		{flag: "tlskey", key: "tlskey", usage: "Path to TLS key file", target: text(&c.TLSKey)},
		{flag: "authorization-plugin", key: "authorization-plugins", reload: true, usage: "Authorization plugins to load", target: list(&c.Authorization, nil)},
		{flag: "metrics-addr", key: "metrics-addr", usage: "Set default address and port to serve the metrics api on", target: text(&c.MetricsAddr)},
		{key: "min-api-version", target: text(&c.MinAPIVersion)},
		{flag: "pidfile", short: "p", key: "pidfile", usage: "Path to use for daemon PID file", target: text(&c.PidFile)},

		{flag: "data-root", key: "data-root", usage: "Root directory of persistent state", target: text(&c.DataRoot)},
		{flag: "exec-root", key: "exec-root", usage: "Root directory for execution state files", target: text(&c.ExecRoot)},
		{flag: "config-file", usage: "Daemon configuration file", target: text(&c.ConfigFile)},
		{flag: "containerd", key: "containerd", usage: "Address of a containerd to stand on, in place of the core of one's own", target: text(&c.Containerd)},
		{flag: "containerd-namespace", key: "containerd-namespace", usage: "Namespace in the core", target: text(&c.Namespace)},
		{flag: "containerd-plugins-namespace", key: "containerd-plugins-namespace", usage: "Namespace of plugins in the core", target: text(&c.PluginNamespace)},
		{flag: "storage-driver", short: "s", key: "storage-driver", usage: "Storage driver to use: overlayfs or native", target: text(&c.StorageDriver)},
		{flag: "shutdown-timeout", key: "shutdown-timeout", reload: true, usage: "Seconds to let containers stop, -1 without end", target: integer(&c.ShutdownTimeout)},
		{flag: "live-restore", key: "live-restore", reload: true, usage: "Keep containers running while the daemon is down", target: boolean(&c.LiveRestore)},
		{flag: "experimental", key: "experimental", usage: "Enable experimental features", target: boolean(&c.Experimental)},
		{flag: "init", key: "init", usage: "Run an init in containers to forward signals and reap processes", target: boolean(&c.Init)},
		{flag: "init-path", key: "init-path", usage: "Path to the init binary", target: text(&c.InitPath)},
		{flag: "validate", usage: "Validate daemon configuration and exit", target: boolean(&c.Validate)},
		{flag: "version", short: "v", usage: "Print version information and quit", target: boolean(&c.Version)},

		{flag: "debug", short: "D", key: "debug", reload: true, usage: "Enable debug mode", target: boolean(&c.Debug)},
		{flag: "log-level", short: "l", key: "log-level", usage: "Set the logging level (debug, info, warn, error, fatal)", target: text(&c.LogLevel)},
		{flag: "log-format", key: "log-format", usage: "Set the logging format (text, json)", target: text(&c.LogFormat)},
		{flag: "raw-logs", key: "raw-logs", usage: "Full timestamps without ANSI coloring", target: boolean(&c.RawLogs)},

		{flag: "log-driver", key: "log-driver", usage: "Default driver for container logs", target: text(&c.LogDriver)},
		{flag: "log-opt", key: "log-opts", usage: "Default log driver options for containers", target: pairs(&c.LogOpts)},
		{flag: "default-runtime", key: "default-runtime", reload: true, usage: "Default OCI runtime for containers", target: text(&c.DefaultRuntime)},
		{flag: "add-runtime", key: "runtimes", reload: true, usage: "Register an additional OCI compatible runtime (name=path)", target: runtimes(&c.Runtimes)},
		{flag: "default-ulimit", key: "default-ulimits", usage: "Default ulimits for containers", target: ulimits(&c.Ulimits)},
		{flag: "default-shm-size", key: "default-shm-size", reload: true, usage: "Default shm size for containers", target: size(&c.ShmSize)},
		{flag: "default-ipc-mode", key: "default-ipc-mode", reload: true, usage: "Default mode for containers ipc (private or shareable)", target: text(&c.IpcMode)},
		{flag: "default-cgroupns-mode", key: "default-cgroupns-mode", usage: "Default mode for containers cgroup namespace (host or private)", target: text(&c.CgroupnsMode)},
		{flag: "cgroup-parent", key: "cgroup-parent", usage: "Set parent cgroup for all containers", target: text(&c.CgroupParent)},
		{flag: "exec-opt", key: "exec-opts", usage: "Runtime execution options (native.cgroupdriver=cgroupfs or systemd)", target: list(new([]string), c.setExecOpt)},
		{flag: "seccomp-profile", key: "seccomp-profile", usage: "Path to seccomp profile, builtin or unconfined", target: text(&c.SeccompProfile)},
		{flag: "userns-remap", key: "userns-remap", usage: "User/Group setting for user namespaces", target: text(&c.UsernsRemap)},
		{flag: "no-new-privileges", key: "no-new-privileges", usage: "Set no-new-privileges by default for new containers", target: boolean(&c.NoNewPrivileges)},
		{flag: "label", key: "labels", reload: true, usage: "Set key=value labels to the daemon", target: list(&c.Labels, nil)},
		{flag: "feature", key: "features", reload: true, usage: "Enable feature in the daemon", target: features(&c.Features)},

		{flag: "cdi-spec-dir", key: "cdi-spec-dirs", usage: "CDI specification directories to use", target: list(&c.CDISpecDirs, nil)},

		{flag: "bridge", short: "b", key: "bridge", usage: "Bridge of the default network, made when absent; 'none' disables it", target: text(&c.Bridge)},
		{flag: "bip", key: "bip", usage: "Address and prefix of the default bridge", target: text(&c.BIP)},
		{flag: "default-address-pool", key: "default-address-pools", usage: "Default address pools for networks (base=CIDR,size=N)", target: pools(&c.AddressPools)},
		{flag: "mtu", key: "mtu", usage: "MTU of the default bridge", target: integer(&c.MTU)},
		{flag: "ip", key: "ip", usage: "Host address for published ports", target: addr(&c.DefaultIP)},
		{flag: "ip-forward", key: "ip-forward", usage: "Enable IP forwarding", target: boolean(&c.IPForward)},
		{flag: "ip-forward-no-drop", key: "ip-forward-no-drop", usage: "Do not set the FORWARD policy to DROP (this engine never does)", target: boolean(&c.IPForwardNoDrop)},
		{flag: "ip-masq", key: "ip-masq", usage: "Enable IP masquerading", target: boolean(&c.IPMasq)},
		{flag: "iptables", key: "iptables", usage: "Enable addition of firewall rules", target: boolean(&c.IPTables)},
		{flag: "ip6tables", key: "ip6tables", usage: "Enable addition of IPv6 firewall rules", target: boolean(&c.IP6Tables)},
		{flag: "firewall-backend", key: "firewall-backend", usage: "Firewall backend to use (nftables)", target: text(&c.FirewallBackend)},
		{flag: "userland-proxy", key: "userland-proxy", usage: "Relay what NAT cannot do", target: boolean(&c.UserlandProxy)},
		{flag: "dns", key: "dns", usage: "DNS server to use", target: list(&c.DNS, nil)},
		{flag: "dns-opt", key: "dns-opts", usage: "DNS options to use", target: list(&c.DNSOpts, nil)},
		{flag: "dns-search", key: "dns-search", usage: "DNS search domains to use", target: list(&c.DNSSearch, nil)},
		{flag: "host-gateway-ip", key: "host-gateway-ips", usage: "Addresses that host-gateway in --add-host resolves to", target: addrs(&c.HostGatewayIPs)},

		{flag: "registry-mirror", key: "registry-mirrors", reload: true, usage: "Preferred registry mirror", target: list(&c.Mirrors, nil)},
		{flag: "insecure-registry", key: "insecure-registries", reload: true, usage: "Enable insecure registry communication", target: list(&c.Insecure, nil)},
		{flag: "max-concurrent-downloads", key: "max-concurrent-downloads", reload: true, usage: "Set the max concurrent downloads", target: integer(&c.MaxDownloads)},
		{flag: "max-concurrent-uploads", key: "max-concurrent-uploads", reload: true, usage: "Set the max concurrent uploads", target: integer(&c.MaxUploads)},
		{flag: "max-download-attempts", key: "max-download-attempts", reload: true, usage: "Set the max download attempts for each pull", target: integer(&c.DownloadAttempts)},
		{flag: "http-proxy", key: "http-proxy", usage: "HTTP proxy URL to use for outgoing traffic", target: text(&c.HTTPProxy)},
		{flag: "https-proxy", key: "https-proxy", usage: "HTTPS proxy URL to use for outgoing traffic", target: text(&c.HTTPSProxy)},
		{flag: "no-proxy", key: "no-proxy", usage: "Hosts that are reached without the proxy", target: text(&c.NoProxy)},
	}
}

func (c *Config) setExecOpt(v string) error {
	const key = "native.cgroupdriver="
	if len(v) < len(key) || v[:len(key)] != key {
		return fmt.Errorf("invalid runtime execution option: %s", v)
	}
	c.CgroupDriver = v[len(key):]
	return nil
}
