// Package hooks runs the lifecycle hooks of an OCI bundle.
//
// A hook is a command that gets the container's state as JSON on its standard
// input. It runs in a process group of its own, which is killed when the hook's
// time is over. What it prints is kept, up to a bound, for the error text.
//
// Where hooks run (runtime-spec, "Lifecycle"):
//
//	prestart createRuntime poststart poststop   the runtime's namespaces
//	createContainer                             the container's, before pivot_root
//	startContainer                              the container's
//
// Hooks of the container's namespaces are programs of package program: a child
// that joins the namespaces of the init by its pidfd. A startContainer hook is a
// file that the container's author chose, so the caller runs it, as confined as the
// init; see Options.Spawn.
//
// A process with a reaper of its own (waiting for any child) must keep it from
// hooks while Run is at work.
package hooks
