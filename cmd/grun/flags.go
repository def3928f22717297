package main

import (
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// parse sets the flags of a command line and returns its arguments. It takes what
// runc's parser takes, that of Go's package flag, and has its words: one dash or
// two, a value behind "=" or in the next word, no two short flags in one word.
// Flags may follow arguments unless strict; there, what is no flag is an argument.
func parse(f *pflag.FlagSet, words []string, strict bool) (args []string, err error) {
	for len(words) > 0 {
		word := words[0]
		switch {
		case word == "--":
			return append(args, words[1:]...), nil
		case len(args) > 0 && !isFlag(f, word), len(word) < 2, word[0] != '-':
			if strict {
				return append(args, words...), nil
			}
			args, words = append(args, word), words[1:]
			continue
		}
		if words, err = parseFlag(f, word, words[1:]); err != nil {
			return nil, err
		}
	}
	return args, nil
}

// isFlag says whether a word names a flag of f or asks for help.
func isFlag(f *pflag.FlagSet, word string) bool {
	name, _, _ := strings.Cut(strings.TrimLeft(word, "-"), "=")
	return lookup(f, name) != nil || name == "help" || name == "h"
}

// parseFlag sets the flag of word and returns the words after it and its value.
func parseFlag(f *pflag.FlagSet, word string, rest []string) ([]string, error) {
	name, value, given := strings.Cut(strings.TrimPrefix(word[1:], "-"), "=")
	if name == "" || name[0] == '-' {
		return nil, fmt.Errorf("bad flag syntax: %s", word)
	}
	flag := lookup(f, name)
	isBool := flag != nil && flag.Value.Type() == "bool"
	switch {
	case flag == nil && (name == "help" || name == "h"):
		return nil, pflag.ErrHelp
	case flag == nil:
		return nil, fmt.Errorf("flag provided but not defined: -%s", name)
	case given:
	case isBool:
		value = "true"
	case len(rest) == 0:
		return nil, fmt.Errorf("flag needs an argument: -%s", name)
	default:
		value, rest = rest[0], rest[1:]
	}
	err := f.Set(flag.Name, value)
	switch {
	case err != nil && isBool:
		return nil, fmt.Errorf("invalid boolean value %q for -%s: parse error", value, name)
	case err != nil:
		return nil, fmt.Errorf("invalid value %q for flag -%s: parse error", value, name)
	}
	return rest, nil
}

// lookup finds a flag by its name or its letter.
func lookup(f *pflag.FlagSet, name string) *pflag.Flag {
	if flag := f.Lookup(name); flag != nil || len(name) != 1 {
		return flag
	}
	return f.ShorthandLookup(name)
}
