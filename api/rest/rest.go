// Package rest holds what both ends of the Engine API must agree on: the range of
// versions, what each version changed (versions.go) and the framing of streams
// (frame.go). Docker's own types carry the bodies; an error's body is
// types.ErrorResponse of github.com/docker/docker/api/types.
package rest

import (
	"fmt"

	"github.com/docker/docker/api/types/versions"
)

const (
	// MaxVersion is the newest API version served, and the one an unversioned path means.
	MaxVersion = "1.51"
	// MinVersion is the oldest API version that can be served.
	MinVersion = "1.24"
)

// CheckVersion says in Docker's words why the version of a request is not served;
// min is the oldest one that is.
func CheckVersion(v, min string) error {
	if versions.LessThan(v, min) {
		return fmt.Errorf("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version", v, min)
	}
	if versions.GreaterThan(v, MaxVersion) {
		return fmt.Errorf("client version %s is too new. Maximum supported API version is %s", v, MaxVersion)
	}
	return nil
}

// CheckMinVersion says whether v may be configured as the oldest version served.
func CheckMinVersion(v string) error {
	if versions.LessThan(v, MinVersion) || versions.GreaterThan(v, MaxVersion) {
		return fmt.Errorf("invalid minimum API version (%s): must be between %s and %s", v, MinVersion, MaxVersion)
	}
	return nil
}
