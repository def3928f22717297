package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/containerd/plugin"
	"github.com/pelletier/go-toml/v2"

	"gantry/api/errdefs"
	"gantry/libctr/config"
)

// Load reads the file at path and what it imports, of any version. Keys that are not
// known are reported to log, which may be nil, and ignored.
func Load(ctx context.Context, path string, log *slog.Logger) (Config, error) {
	tree, err := reader(log).Load(ctx, path)
	if err != nil {
		return Config{}, err
	}
	return fromTree(tree)
}

// Migrate writes the file at path alone, without what it imports or leaves out, in the
// latest version.
func Migrate(ctx context.Context, path string, log *slog.Logger, to io.Writer) error {
	tree, err := reader(log).File(ctx, path)
	if err != nil {
		return err
	}
	return toml.NewEncoder(to).SetIndentTables(true).Encode(tree)
}

// reader knows the keys that there are and how plugins' settings have moved.
func reader(log *slog.Logger) config.Reader {
	r := config.Reader{Schema: func() any { return new(Config) }, Log: log}
	for _, p := range Registrations() {
		if p.ConfigMigration != nil {
			r.Migrations = append(r.Migrations, p.ConfigMigration)
		}
	}
	return r
}

// Registrations are the plugins that every core has, not initialised.
func Registrations() []*plugin.Registration {
	b := &builder{log: slog.New(slog.DiscardHandler)}
	return b.registrations()
}

func fromTree(tree config.Tree) (cfg Config, err error) {
	data, err := toml.Marshal(tree)
	if err == nil {
		err = toml.Unmarshal(data, &cfg)
	}
	if err != nil {
		return Config{}, errdefs.InvalidArgument("configuration: %w", err)
	}
	return cfg, nil
}

// Write writes a configuration as a file of the latest version, with every setting
// that there is: those of plugins and the timeouts, too.
func (c Config) Write(ctx context.Context, to io.Writer) error {
	c = c.withDefaults()
	c.Version = config.Version
	plugins := map[string]any{}
	for uri, table := range c.Plugins {
		plugins[uri] = table
	}
	for _, p := range Registrations() {
		if p.Config == nil {
			continue
		}
		if err := c.decode(ctx, c.Log, p.URI(), p.Config); err != nil {
			return err
		}
		plugins[p.URI()] = p.Config
	}
	c.Plugins = plugins
	t, err := timeoutsOf(c.Timeouts)
	if err != nil {
		return errdefs.InvalidArgument("configuration: %w", err)
	}
	c.Timeouts = t.byName(c.Timeouts)
	return toml.NewEncoder(to).SetIndentTables(true).Encode(c)
}

// decode reads the table of the plugin uri into its configuration struct. A key that
// the plugin does not know is reported and ignored.
func (c Config) decode(ctx context.Context, log *slog.Logger, uri string, into any) error {
	table, ok := c.Plugins[uri]
	if !ok {
		return nil
	}
	if into == nil {
		into = &struct{}{} // so that every key is told of
	}
	data, err := toml.Marshal(table)
	if err != nil {
		return errdefs.InvalidArgument("plugins.%q: %w", uri, err)
	}
	err = toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(into)
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) {
		for i := range unknown.Errors {
			log.WarnContext(ctx, "unknown key in a plugin's configuration is ignored",
				"plugin", uri, "key", strings.Join(unknown.Errors[i].Key(), "."))
		}
		err = toml.Unmarshal(data, into)
	}
	if err != nil {
		return errdefs.InvalidArgument("plugins.%q: %w", uri, keyed(err))
	}
	return nil
}

// keyed names the key of a value that can't be decoded: its line is of no file.
func keyed(err error) error {
	var at *toml.DecodeError
	if errors.As(err, &at) && len(at.Key()) > 0 {
		return fmt.Errorf("%s: %w", strings.Join(at.Key(), "."), err)
	}
	return err
}
