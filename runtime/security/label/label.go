// Package label says what to write where so that a process gets its AppArmor
// profile or SELinux label at exec.
package label

// Attr is a value to be written, in one write, by the process itself.
type Attr struct {
	Path  string // below /proc/<pid>, e.g. "attr/apparmor/exec"
	Value string
}

// AppArmorExec …
func AppArmorExec(profile string) (*Attr, error) { return nil, nil }

// SELinuxExec …
func SELinuxExec(l string) (*Attr, error) { return nil, nil }

// MountOption …
func MountOption(l string) string { return "" }
