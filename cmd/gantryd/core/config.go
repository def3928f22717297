package core

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"

	"gantry/api/version"
	"gantry/libctr/server"
)

// defaults is what there is without a file.
func defaults() server.Config {
	return server.Config{Version: 3, Root: defaultRoot, State: defaultState}
}

// config is the configuration in force. A file that nobody has named need not be there.
func (f flags) config(ctx context.Context, log *slog.Logger) (server.Config, error) {
	cfg, err := server.Load(ctx, f.file, log)
	if errors.Is(err, fs.ErrNotExist) && !f.fileGiven && !exists(f.file) {
		cfg, err = defaults(), nil
	}
	if err != nil {
		return cfg, err
	}
	if err := f.apply(&cfg); err != nil {
		return cfg, err
	}
	cfg.Log = log
	cfg.Build = server.Build{Version: version.Version, Revision: version.Commit}
	return cfg, cfg.Validate()
}

// exists tells a file that is not there from one that imports such a one.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// apply puts flags over the file, and the file over the defaults.
func (f flags) apply(cfg *server.Config) error {
	for _, v := range []struct {
		to        *string
		flag, def string
	}{{&cfg.Root, f.root, defaultRoot}, {&cfg.State, f.state, defaultState}} {
		if v.flag != "" {
			path, err := filepath.Abs(v.flag)
			if err != nil {
				return err
			}
			*v.to = path
		}
		if *v.to == "" {
			*v.to = v.def
		}
	}
	if f.address != "" {
		cfg.GRPC.Address = f.address
	}
	if f.level != "" {
		cfg.Debug.Level = f.level
	}
	return checkLog(cfg.Debug)
}

func checkLog(d server.DebugConfig) error {
	switch d.Level {
	case "", "trace", "debug", "info", "warn", "warning", "error", "fatal", "panic":
	default:
		return fmt.Errorf("log level %q is unknown", d.Level)
	}
	switch d.Format {
	case "", "text", "json":
		return nil
	}
	return fmt.Errorf("log format %q is unknown", d.Format)
}

// configCommand writes configurations.
func configCommand(ctx context.Context, f flags, args []string, to io.Writer) error {
	if len(args) != 1 {
		return errors.New("core config: one of default, dump and migrate is needed")
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	switch args[0] {
	case "default":
		cfg := defaults()
		cfg.Log = log
		return cfg.Write(ctx, to)
	case "dump":
		cfg, err := f.config(ctx, log)
		if err != nil {
			return err
		}
		return cfg.Write(ctx, to)
	case "migrate":
		return server.Migrate(ctx, f.file, log, to)
	}
	return fmt.Errorf("core config: no such command: %s", args[0])
}
