package daemon

import (
	"log/slog"
	"path/filepath"

	"gantry/api/database"
)

// Schemas of the two databases; see database.Schema. What is in them is drawn by the
// services: container, volume, network.
var durableSchema, runtimeSchema database.Schema

// openDurable opens the database of records. A damaged one is an error: what it lost
// cannot be told from what never was.
func openDurable(dataRoot string) (*database.DB, error) {
	return database.Open(filepath.Join(dataRoot, "gantry.db"), database.Options{NoFreelistSync: true, Schema: durableSchema})
}

// openRuntime opens the database of the present boot.
func openRuntime(execRoot string, log *slog.Logger) (*database.DB, error) {
	return database.OpenBoot(filepath.Join(execRoot, "run.db"), runtimeSchema, log)
}
