package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/pflag"

	"gantry/api/version"
)

// help prints what there is to know of a command.
func (c command) help(w io.Writer, flags *pflag.FlagSet) {
	use := ""
	if flags.HasAvailableFlags() {
		use = " [command options]"
	}
	fmt.Fprintf(w, "NAME:\n   grun %s - %s\n\nUSAGE:\n   grun %s\n", c.name, c.about, strings.TrimSpace(c.name+use+" "+c.args))
	if c.text != "" {
		fmt.Fprintf(w, "\nDESCRIPTION:\n%s\n", indent(c.text))
	}
	if flags.HasAvailableFlags() {
		fmt.Fprint(w, "\nOPTIONS:\n")
		options(w, flags)
	}
}

// usage prints the commands and the global flags.
func usage(w io.Writer, flags *pflag.FlagSet) {
	fmt.Fprintf(w, "NAME:\n   grun - run containers of the Open Container Initiative's runtime specification\n\n"+
		"USAGE:\n   grun [global options] command [command options] [arguments...]\n\nVERSION:\n   %s\n\nCOMMANDS:\n", version.Version)
	for _, c := range commands() {
		fmt.Fprintf(w, "   %-12s%s\n", c.name, c.about)
	}
	fmt.Fprintf(w, "   %-12s%s\n\nGLOBAL OPTIONS:\n", "help, h", "print the commands, or what there is to know of one")
	options(w, flags)
}

// options prints flags in the order of their declaration.
func options(w io.Writer, flags *pflag.FlagSet) {
	t := tabwriter.NewWriter(w, 1, 8, 2, ' ', 0)
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden {
			return
		}
		value := " value"
		if f.Value.Type() == "bool" {
			value = ""
		}
		names := "--" + f.Name + value
		if f.Shorthand != "" {
			names += ", -" + f.Shorthand + value
		}
		fmt.Fprintf(t, "   %s\t%s%s\n", names, f.Usage, byDefault(f))
	})
	if flags.Lookup("help") == nil {
		fmt.Fprint(t, "   --help, -h\tprint this\n")
	}
	t.Flush()
}

func byDefault(f *pflag.Flag) string {
	switch f.DefValue {
	case "", "0", "[]", "false":
		return ""
	}
	if f.Value.Type() == "string" {
		return fmt.Sprintf(" (default: %q)", f.DefValue)
	}
	return " (default: " + f.DefValue + ")"
}

func indent(text string) string {
	return "   " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n   ")
}
