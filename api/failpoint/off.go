//go:build !failpoint

package failpoint

// Enabled says whether the points do anything in this build.
const Enabled = false

// Hit is a point at which the process can die or wait.
func Hit(string) {}

// Err is a point that can fail too.
func Err(string) error { return nil }
