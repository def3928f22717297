// Package version names the build. The values are set by the linker.
package version

// Version is the engine's semantic version, Commit the source it was built from.
var (
	Version = "0.1.0-dev"
	Commit  = "unknown"
)
