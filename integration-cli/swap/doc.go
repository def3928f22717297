// Package swap holds the tests of the swap rule at the runtime's boundary, with the
// real programs of both sides: grun under dockerd, podman, containerd and a caller
// that speaks as conmon does, and runc, crun and grun under our shim and engine.
//
// A story is a shell script of docker commands. Every caller tells the same stories on
// every runtime; what is printed and how it ends must be what the caller prints and how
// it ends on the runtime that it is made for.
package swap
