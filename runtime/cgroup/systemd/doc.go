// Package systemd asks systemd for scopes: its units of processes that somebody
// else has started, each with a cgroup.
//
// Names, properties and the conversions to them are pure; Bus carries them over
// D-Bus. A scope can't be made without a process in it, and ends when the last one
// has gone.
package systemd
