package container

import "gantry/daemon/tracing"

// step makes a span of a step of this package.
var step = tracing.Steps("gantry/daemon/container")
