// Package clients holds the tests of the core's socket with the programs that users have
// for containerd: ctr of 1.6 and 2.x, nerdctl, BuildKit, and a program on its Go client.
//
// A story is a list of commands. It is told to a real containerd and to our core, and
// what is printed and how each ends must be the same.
package clients
