package logger

import (
	"fmt"
	"maps"
	"slices"

	"gantry/api/shimwire"
	"gantry/daemon/logger/target/fluentd"
	"gantry/daemon/logger/target/gelf"
	"gantry/daemon/logger/target/journald"
	"gantry/daemon/logger/target/syslog"
)

// Drivers whose log is the engine's own.
const (
	JSONFile = shimwire.DriverJSONFile
	Local    = shimwire.DriverLocal
	None     = shimwire.DriverNone
)

// Drivers whose log is somebody else's: a forwarder takes it there, see daemon/logger/forward.
const (
	Syslog   = "syslog"
	Journald = "journald"
	Fluentd  = "fluentd"
	GELF     = "gelf"
)

// driver is what the engine knows of one log driver.
type driver struct {
	// check looks at the driver's own options: mode, max-buffer-size and those of the
	// cache are not among them.
	check func(options map[string]string) error
	// files says how the log is kept, from all options; nil for a remote driver, whose
	// files are a cache.
	files func(options map[string]string) (Files, error)
	// present looks for what must be there when a container is created, and may be away
	// for a while later; nil looks for nothing.
	present func(options map[string]string) error
}

// drivers are all but none. Each has its check in a file of its own, options_<driver>.go;
// a remote one is an entry with a check alone.
var drivers = map[string]driver{
	JSONFile: {check: checkJSONFile, files: jsonFiles},
	Local:    {check: checkLocal, files: localFiles},
	Syslog:   {check: syslog.Check, present: syslog.Present},
	Journald: {check: journald.Check},
	Fluentd:  {check: fluentd.Check},
	GELF:     {check: gelf.Check},
}

// Drivers are the names of the log drivers, sorted, without none, as Docker's info
// lists them.
func Drivers() []string { return slices.Sorted(maps.Keys(drivers)) }

// onlyKeys refuses options that are not among keys, in the words of form, which takes
// the option's name.
func onlyKeys(c map[string]string, keys []string, form string) error {
	for _, k := range slices.Sorted(maps.Keys(c)) {
		if !slices.Contains(keys, k) {
			return fmt.Errorf(form, k)
		}
	}
	return nil
}
