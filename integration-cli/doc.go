// Package integrationcli holds the tests that drive a whole engine as its users do:
// with the real docker CLI, with HTTP on the API socket, and with containerd's own
// ctr on the core's. Each top-level test runs an engine of its own and checks, after
// every case, that nothing of the case is left on the machine.
package integrationcli
