package validate

import "strings"

// maxID is the longest container id, as with runc.
const maxID = 1024

// ID checks a container's id: letters, digits, "_", "+", "-" and ".", at most
// 1024 bytes, and not "." or "..", since it names a directory. The text is runc's.
func ID(id string) error {
	if id == "" {
		return problem("container id cannot be empty")
	}
	if len(id) > maxID || id == "." || id == ".." || strings.ContainsFunc(id, notInID) {
		return problem("invalid container ID format")
	}
	return nil
}

func notInID(r rune) bool {
	switch {
	case r >= '0' && r <= '9', r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z':
		return false
	}
	return !strings.ContainsRune("_+-.", r)
}
