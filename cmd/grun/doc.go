// Command grun is the OCI runtime's command line, with runc's commands, flags,
// words and exit codes, so that what drives runc can drive it:
//
//	grun [global flags] command [flags] [container-id] [argument...]
//
// State is kept in <root>/<id>, root being /run/grun, or $XDG_RUNTIME_DIR/grun
// for a user who is not root. An error goes to the log as one line of level error
// and, when the log is a file, to standard error as plain text too; the exit
// status is then 1, 255 of exec, 3 of an unknown command. Otherwise that of run and
// exec is the status of the process, 128 + n when signal n ended it.
package main
