// Package name has the names of containers: which are valid, random ones, and the
// index that finds a container by id, name or id prefix.
package name

import (
	"regexp"
	"strings"

	"github.com/docker/docker/pkg/namesgenerator"
)

// Chars is the alphabet of names as messages show it.
const Chars = `[a-zA-Z0-9][a-zA-Z0-9_.-]`

var pattern = regexp.MustCompile(`^` + Chars + `+$`)

// Valid says whether s, without a leading slash, may name a container or a volume.
func Valid(s string) bool { return pattern.MatchString(s) }

// Trim removes the one leading slash that clients may give.
func Trim(s string) string { return strings.TrimPrefix(s, "/") }

// Random returns two words joined by an underscore; with retry above 0 a digit follows.
func Random(retry int) string { return namesgenerator.GetRandomName(retry) }
