// Command containerd-shim-gantry-v2 runs one container (or a pod's) for an
// engine that speaks containerd's runtime v2 protocol. It is built with the tag
// no_grpc, which keeps gRPC out of every shim's memory. See package shim/boot.
package main

import (
	"os"

	"gantry/shim/boot"
	"gantry/shim/compressor"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == compressor.Action {
		os.Exit(compressor.Main(os.Args[2:]))
	}
	os.Exit(boot.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
