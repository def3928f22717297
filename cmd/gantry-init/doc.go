// Command gantry-init is the first process of a container started with --init:
// it runs one command, hands it the signals it gets, reaps whatever becomes its
// child, and leaves with the command's status, or 128 + n when signal n ended it.
//
//	gantry-init [-s] [-g] [--] command [argument...]
//	gantry-init --version
//
//	-s  be a child subreaper, where it is not process 1
//	-g  send signals to the command's process group, not to the command alone
//
// The command leads a process group of its own, which becomes the terminal's
// foreground group if standard input is our controlling terminal. A command that
// can't be run ends in status 127 when there is none of its name, else in 126.
//
// Not handed on: SIGCHLD, the signals that are about the process itself (such as
// SIGSEGV), SIGTTIN and SIGTTOU, and SIGURG, which Go's scheduler uses.
package main
