package main

import (
	"os"
	"syscall"

	"gantry/api/version"
)

func main() {
	o, err := parse(os.Args[1:])
	switch {
	case err != "":
		say(2, "gantry-init: "+err+"\nusage: gantry-init [-s] [-g] [--] command [argument...]\n")
		os.Exit(1)
	case o.version:
		say(1, "gantry-init version "+version.Version+"\n")
		return
	}
	os.Exit(run(o))
}

type options struct {
	version, subreaper, group bool
	command                   []string
}

// parse reads the command line; problem is "" when it is good.
func parse(args []string) (o options, problem string) {
	for len(args) > 0 && len(args[0]) > 1 && args[0][0] == '-' {
		arg := args[0]
		args = args[1:]
		if arg == "--" {
			break
		}
		switch arg {
		case "--version":
			o.version = true
		case "-s":
			o.subreaper = true
		case "-g":
			o.group = true
		default:
			return o, "unknown option " + arg
		}
	}
	if len(args) == 0 && !o.version {
		return o, "no command"
	}
	o.command = args
	return o, ""
}

func say(fd int, text string) { syscall.Write(fd, []byte(text)) }
