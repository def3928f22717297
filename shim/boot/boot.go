// Package boot is the shim's command line: containerd's runtime v2 protocol.
//
//	-info                               prints a RuntimeInfo message
//	-namespace NS -id ID -address GRPC [-bundle DIR] [-publish-binary BIN] [-debug] start
//	… delete
//	-namespace NS -id ID -address GRPC [-publish-binary BIN] -socket unix://… -listen-fd N [-one-task] [-debug] serve
//	-namespace NS -id ID -socket PATH -listen-fd N [-debug] keep
//
// start runs in the bundle, makes the socket, starts the serving process and
// prints how to reach it. The serving process has its own session, is the
// subreaper of what it runs, and is adopted by pid 1 when start has left. start
// leaves in the bundle
//
//	shim.pid   the serving process
//	address    unix://…, for older containerds
//
// and the serving process runtime.json (see choice), which delete reads when the
// shim has died.
//
// serve is what start executes, and what an engine that knows this shim may
// execute itself, in start's place: see args.serve.
//
// keep is no shim: it holds the streams of a container whose shim is another's.
//
// containerd 2.3 sends a BootstrapParams message on stdin and understands a JSON
// answer of version 3. Older ones send the runtime's options or nothing, and take
// a bare address, which to all of them means version 2 of the task API.
package boot

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

// Version is what -v and -info tell; the linker sets it.
var Version = "0.1.0-dev"

const name = "io.containerd.gantry.v2"

// args are the flags of one run.
type args struct {
	namespace, id, bundle, address, publish, socket string
	listenFD                                        int
	oneTask                                         bool
	debug, info, version                            bool
	action                                          string
}

func parseArgs(argv []string) (a args, err error) {
	f := flag.NewFlagSet("containerd-shim-gantry-v2", flag.ContinueOnError)
	f.StringVar(&a.namespace, "namespace", "", "namespace that owns the container")
	f.StringVar(&a.id, "id", "", "id of the task")
	f.StringVar(&a.bundle, "bundle", "", "bundle directory; default the working directory")
	f.StringVar(&a.address, "address", "", "address of the engine's gRPC socket")
	f.StringVar(&a.publish, "publish-binary", "", "program that takes events where there is no TTRPC_ADDRESS")
	f.StringVar(&a.socket, "socket", "", "serve: address of the socket")
	f.IntVar(&a.listenFD, "listen-fd", 0, "serve: descriptor of the socket, which listens already")
	f.BoolVar(&a.oneTask, "one-task", false, "serve: end when the task has been deleted")
	f.BoolVar(&a.debug, "debug", false, "log more")
	f.BoolVar(&a.info, "info", false, "print the runtime's description and leave")
	f.BoolVar(&a.version, "v", false, "print the version and leave")
	if err := f.Parse(argv); err != nil {
		return a, err
	}
	a.action = f.Arg(0)
	if a.info || a.version {
		return a, nil
	}
	if a.namespace == "" || a.id == "" {
		return a, errors.New("-namespace and -id are required")
	}
	if (a.action == "serve" || a.action == "keep") && (a.listenFD < 3 || a.socket == "") {
		return a, fmt.Errorf("%s needs -listen-fd and -socket", a.action)
	}
	return a, nil
}

// Main runs the command line and returns the exit status. Errors go to stderr,
// where the engine takes them from.
func Main(argv []string, stdin io.Reader, stdout, stderr io.Writer) int {
	a, err := parseArgs(argv)
	if err == nil {
		err = a.run(stdin, stdout)
	}
	if err != nil {
		fmt.Fprintf(stderr, "containerd-shim-gantry-v2: %v\n", err)
		return 1
	}
	return 0
}

func (a args) run(stdin io.Reader, stdout io.Writer) error {
	switch {
	case a.version:
		_, err := fmt.Fprintf(stdout, "containerd-shim-gantry-v2:\n  Version:  %s\n", Version)
		return err
	case a.info:
		return writeInfo(stdin, stdout)
	case a.action == "start":
		return a.start(stdin, stdout)
	case a.action == "delete":
		return a.delete(stdout)
	case a.action == "serve":
		return a.serve()
	case a.action == "keep":
		return a.keep()
	}
	return fmt.Errorf("unknown action %q", a.action)
}

// dir is the bundle.
func (a args) dir() (string, error) {
	if a.bundle != "" {
		return a.bundle, nil
	}
	return os.Getwd()
}
