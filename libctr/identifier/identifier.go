// Package identifier says which names the core takes for containers, execs,
// namespaces and plugins: containerd's rule, so that each may be a path component
// and part of an event's topic.
package identifier

import "gantry/api/errdefs"

// MaxLength is in bytes.
const MaxLength = 76

// Validate accepts 1 to MaxLength ASCII letters and digits with single
// separators (".", "_" or "-") between them; the first and
// last are no separators. Anything else is InvalidArgument.
func Validate(s string) error {
	if s == "" {
		return errdefs.InvalidArgument("identifier must not be empty: invalid argument")
	}
	if len(s) > MaxLength {
		return errdefs.InvalidArgument("identifier %q greater than maximum length (%d characters): invalid argument", s, MaxLength)
	}
	separated := true // nothing alphanumeric before
	for i := range len(s) {
		switch c := s[i]; {
		case alphanumeric(c):
			separated = false
		case (c == '.' || c == '_' || c == '-') && !separated:
			separated = true
		default:
			return malformed(s)
		}
	}
	if separated {
		return malformed(s)
	}
	return nil
}

func alphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}

func malformed(s string) error {
	return errdefs.InvalidArgument("identifier %q must match ^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$: invalid argument", s)
}
