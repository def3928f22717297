package main

import (
	"log/slog"
	"os"

	"gantry/cmd/gantryd/logger"
	"gantry/daemon/config"
)

// newLog makes the daemon's logger; level can be changed while it runs.
func newLog(c *config.Config, level *slog.LevelVar) *slog.Logger {
	level.Set(logger.Level(c.Level()))
	return logger.New(os.Stderr, c.LogFormat, level)
}
