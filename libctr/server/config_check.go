package server

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"

	"gantry/api/errdefs"
)

// Default names of what New completes an embedder's Config with.
const (
	defaultMessageSize = 16 << 20
	defaultStopTimeout = 5 * time.Second
)

// Load reads a config.toml; keys it does not know are errors. A file that does
// not exist is an empty one.
func Load(path string) (Config, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return Config{}, nil
	}
	if err != nil {
		return Config{}, fmt.Errorf("read configuration: %w", err)
	}
	return Parse(data)
}

// Parse reads the text of a config.toml.
func Parse(data []byte) (Config, error) {
	var cfg Config
	dec := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields()
	if err := dec.Decode(&cfg); err != nil {
		return Config{}, errdefs.InvalidArgument("configuration: %w", tomlError(err))
	}
	if len(bytes.TrimSpace(data)) > 0 && cfg.Version == 0 {
		return Config{}, errdefs.InvalidArgument("configuration: version 1 is no longer supported, set version = 2 or 3")
	}
	return cfg, nil
}

// tomlError says which keys are unknown, and where.
func tomlError(err error) error {
	var strict *toml.StrictMissingError
	if !errors.As(err, &strict) {
		return err
	}
	var keys []string
	for i := range strict.Errors {
		row, _ := strict.Errors[i].Position()
		keys = append(keys, fmt.Sprintf("%s (line %d)", strings.Join(strict.Errors[i].Key(), "."), row))
	}
	return fmt.Errorf("unknown keys: %s", strings.Join(keys, ", "))
}

// withDefaults completes what was left empty.
func (c Config) withDefaults() Config {
	set := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	set(&c.GRPC.Address, filepath.Join(c.State, "core.sock"))
	set(&c.TTRPC.Address, c.GRPC.Address+".ttrpc")
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
	if c.Version != 0 && c.Version != 2 && c.Version != 3 {
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
	for name, path := range map[string]string{"grpc.address": c.GRPC.Address, "ttrpc.address": c.TTRPC.Address} {
		if path != "" && !filepath.IsAbs(path) {
			bad("%s %q must be an absolute path", name, path)
		}
	}
	for key, set := range map[string]bool{
		"plugin_dir": c.PluginDir != "", "imports": len(c.Imports) > 0, "grpc.tcp_address": c.GRPC.TCPAddress != ""} {
		if set {
			bad("%s is not supported", key)
		}
	}
	for name, p := range c.ProxyPlugins {
		if p.Type == "" || !filepath.IsAbs(strings.TrimPrefix(p.Address, "unix://")) {
			bad("proxy_plugins.%s needs a type and the absolute path of a socket", name)
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return errdefs.InvalidArgument("configuration: %w", errors.Join(problems...))
}

// decode reads the table of the plugin uri into its configuration struct.
func (c Config) decode(uri string, into any) error {
	table, ok := c.Plugins[uri]
	if !ok || into == nil {
		return nil
	}
	data, err := toml.Marshal(table)
	if err != nil {
		return errdefs.InvalidArgument("plugins.%q: %w", uri, err)
	}
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(into); err != nil {
		return errdefs.InvalidArgument("plugins.%q: %w", uri, tomlError(err))
	}
	return nil
}
