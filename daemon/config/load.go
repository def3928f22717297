package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// maxFile bounds the size of daemon.json, bytes.
const maxFile = 4 << 20

// Load makes a Config of defaults, the file and the arguments args (without the
// program's name), and checks it. pflag.ErrHelp means that help was asked for and
// has been written to usage.
func Load(args []string, usage io.Writer) (*Config, error) {
	c := New()
	set := pflag.NewFlagSet("gantryd", pflag.ContinueOnError)
	set.SetOutput(usage)
	set.SortFlags = false
	opts := c.options()
	for _, o := range opts {
		if o.flag == "" {
			continue
		}
		f := set.VarPF(o.target, o.flag, o.short, o.usage)
		if o.target.Type() == "bool" {
			f.NoOptDefVal = "true"
		}
	}
	addForeign(set)
	if err := set.Parse(args); err != nil {
		return nil, err
	}
	if err := c.checkForeign(set); err != nil {
		return nil, err
	}
	if set.NArg() > 0 {
		return nil, fmt.Errorf("unknown argument: %s", set.Arg(0))
	}
	if err := c.readFile(opts, set); err != nil {
		return nil, err
	}
	return c, c.finish()
}

// addForeign registers the flags that are refused or ignored, so that they are
// answered by name.
func addForeign(set *pflag.FlagSet) {
	for _, name := range slices.Concat(refused, accepted) {
		if set.Lookup(name) != nil {
			continue
		}
		set.Var(&value{kind: "string", set: func(string, bool) error { return nil }}, name, "")
		set.Lookup(name).Hidden = true
		if slices.Contains(switches, name) {
			set.Lookup(name).NoOptDefVal = "true" // the others have a value, which is not looked at
		}
	}
}

func (c *Config) checkForeign(set *pflag.FlagSet) error {
	var errs []error
	set.Visit(func(f *pflag.Flag) {
		switch {
		case !f.Hidden:
		case slices.Contains(refused, f.Name):
			errs = append(errs, fmt.Errorf("--%s is not supported by this engine", f.Name))
		default:
			c.Warnings = append(c.Warnings, fmt.Sprintf("--%s is ignored by this engine", f.Name))
		}
	})
	return errors.Join(errs...)
}

// readFile applies the file to every option that no flag has set. A missing file is
// fine unless it was named.
func (c *Config) readFile(opts []option, set *pflag.FlagSet) error {
	raw, err := readBounded(c.ConfigFile)
	if errors.Is(err, fs.ErrNotExist) && !set.Changed("config-file") {
		return nil
	}
	if err == nil {
		err = c.apply(raw, opts, set)
	}
	if err != nil {
		return fmt.Errorf("unable to configure the daemon with file %s: %w", c.ConfigFile, err)
	}
	return nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = fmt.Errorf("larger than %d bytes", maxFile)
	}
	return raw, err
}

func (c *Config) apply(raw []byte, opts []option, set *pflag.FlagSet) error {
	if raw = bytes.TrimSpace(bytes.TrimPrefix(raw, []byte("\xef\xbb\xbf"))); len(raw) == 0 {
		return nil
	}
	keys := map[string]json.RawMessage{}
	if err := json.Unmarshal(raw, &keys); err != nil {
		return err
	}
	if err := flatten(keys); err != nil {
		return err
	}
	var unknown, both []string
	var errs []error
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		i := slices.IndexFunc(opts, func(o option) bool { return o.key == key })
		switch {
		case i < 0 && foreign(refused, key):
			errs = append(errs, fmt.Errorf("%s is not supported by this engine", key))
		case i < 0 && foreign(accepted, key):
			c.Warnings = append(c.Warnings, key+" is ignored by this engine")
		case i < 0:
			unknown = append(unknown, key)
		case opts[i].flag != "" && set.Changed(opts[i].flag):
			both = append(both, fmt.Sprintf("%s: (from flag: %s, from file: %s)", key, opts[i].target, keys[key]))
		default:
			if err := json.Unmarshal(keys[key], opts[i].target); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", key, err))
			}
		}
	}
	if len(unknown) > 0 {
		errs = append(errs, fmt.Errorf("the following directives don't match any configuration option: %s", strings.Join(unknown, ", ")))
	}
	if len(both) > 0 {
		errs = append(errs, fmt.Errorf("the following directives are specified both as a flag and in the configuration file: %s", strings.Join(both, ", ")))
	}
	return errors.Join(errs...)
}

// flatten lifts proxies.X to X and turns the older single host-gateway-ip into the list.
func flatten(keys map[string]json.RawMessage) error {
	if raw, ok := keys["proxies"]; ok {
		inner := map[string]json.RawMessage{}
		if err := json.Unmarshal(raw, &inner); err != nil {
			return fmt.Errorf("proxies: %w", err)
		}
		delete(keys, "proxies")
		for k, v := range inner {
			if !slices.Contains([]string{"http-proxy", "https-proxy", "no-proxy"}, k) {
				k = "proxies." + k // unknown, and told by this name
			}
			keys[k] = v
		}
	}
	if raw, ok := keys["host-gateway-ip"]; ok {
		delete(keys, "host-gateway-ip")
		keys["host-gateway-ips"] = json.RawMessage("[" + string(raw) + "]")
	}
	return nil
}

func foreign(names []string, key string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return n == key || plurals[n] == key })
}

// finish fills what follows from other settings and validates.
func (c *Config) finish() error {
	if len(c.Hosts) == 0 {
		c.Hosts = []string{DefaultHost}
	}
	if c.CgroupDriver == "" {
		c.CgroupDriver = defaultCgroupDriver()
	}
	c.completeTLS()
	c.completeHosts()
	c.completeBounds()
	c.completeCDI()
	c.Containerd = strings.TrimPrefix(c.Containerd, "unix://")
	for _, p := range []*string{&c.DataRoot, &c.ExecRoot, &c.PidFile, &c.Containerd} {
		if *p == "" {
			continue
		}
		abs, err := filepath.Abs(*p)
		if err != nil {
			return err
		}
		*p = abs
	}
	if c.StorageDriver == "" || c.StorageDriver == "overlay2" {
		c.StorageDriver = "overlayfs"
	}
	c.LogOpts = boundedLog(c.LogDriver, c.LogOpts)
	if c.StorageDriver == "vfs" {
		c.StorageDriver = "native"
	}
	for _, name := range slices.Sorted(maps.Keys(c.Features)) {
		switch {
		case name == "containerd-snapshotter" && !c.Features[name]:
			c.Warnings = append(c.Warnings, "feature containerd-snapshotter is always on in this engine")
		case name != "containerd-snapshotter" && name != "cdi":
			c.Warnings = append(c.Warnings, "feature "+name+" is not known to this engine")
		}
	}
	return c.check()
}

// completeBounds: 0 asks for the default, as with dockerd.
func (c *Config) completeBounds() {
	def := New()
	c.MaxDownloads = cmp.Or(c.MaxDownloads, def.MaxDownloads)
	c.MaxUploads = cmp.Or(c.MaxUploads, def.MaxUploads)
	c.DownloadAttempts = cmp.Or(c.DownloadAttempts, def.DownloadAttempts)
	if v := os.Getenv("DOCKER_MIN_API_VERSION"); v != "" && c.MinAPIVersion == def.MinAPIVersion {
		c.MinAPIVersion = v
	}
}

// boundedLog completes the options of logs: one without bounds is how disks fill up; who
// wants that says max-size=-1.
func boundedLog(driver string, opts map[string]string) map[string]string {
	if _, set := opts["max-size"]; driver != "json-file" || set {
		return opts
	}
	out := map[string]string{"max-size": "100m", "max-file": "5"}
	maps.Copy(out, opts)
	return out
}
