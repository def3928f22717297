// Package program runs a list of system calls in a freshly cloned child.
//
// A Program is data: calls with their arguments, registers that carry results
// (a file descriptor from open_tree used by a later move_mount), errnos that are
// tolerated, and for each call a label that says what it is for. Start clones a
// child that interprets the list with raw system calls and ends in execve. The
// child never runs the Go scheduler, allocates no memory and grows no stack: it
// is a copy-on-write copy of its parent, in which only the thread that cloned
// exists. So Start belongs into small processes.
//
// # Fork protocol
//
// It is that of package syscall's forkExec:
//
//	parent                                     child
//	runtime_BeforeFork: signals blocked,
//	  stack growth becomes a crash
//	[setns(pidfd, CLONE_NEWPID)]
//	clone3 ─────────────────────────────────►  runtime_AfterForkInChild: handlers
//	[setns(own pid namespace)]                   to default, signals unblocked
//	runtime_AfterFork                          interpret: nosplit, norace
//
// # Memory
//
// Ops, registers, strings and scratch buffers lie in one anonymous mapping that
// the parent fills and the child inherits; one more page is shared between both
// and carries the child's result: state, index of the failed op, errno, notes.
//
// # Talk between parent and child
//
// A SOCK_SEQPACKET pair. The child sends one byte per message, with a file
// descriptor beside it where there is one to hand over:
//
//	'c' code  ask: the child waits for one byte in answer
//	'n' code  tell: the child goes on
//	'f' code  tell, with a file descriptor
//	EOF       execve has been done, or the child is gone: the shared page knows
//
// A child whose parent's end closes while it waits leaves with status 1. After
// the child has let go of the socket to wait for its start, it is the one that
// connects to its listening socket who gets the result: EOF after execve, or
// an errno (4 bytes, native order) and the label of what failed.
package program
