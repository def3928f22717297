package core

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/template"

	"github.com/opencontainers/runtime-spec/specs-go"
)

// maxState bounds a container's state and its config.json, in bytes.
const maxState = 16 << 20

// hook is the program of a hook that wants to know its container: a runtime gives it
// the container's state on stdin; what stands in double braces in its arguments and
// environment is put in, and the process becomes the program that they name.
func hook(args []string, stdin io.Reader) error {
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		return errors.New("oci-hook: the program to run is needed")
	}
	words, err := hookWords(stdin)
	if err != nil {
		return fmt.Errorf("oci-hook: %w", err)
	}
	args, err = fill(args, words)
	if err != nil {
		return fmt.Errorf("oci-hook: %w", err)
	}
	env, err := fill(os.Environ(), words)
	if err != nil {
		return fmt.Errorf("oci-hook: %w", err)
	}
	return fmt.Errorf("oci-hook: run %s: %w", args[0], syscall.Exec(args[0], args, env))
}

// hookWords are the functions that templates may use.
func hookWords(stdin io.Reader) (template.FuncMap, error) {
	var state specs.State
	if err := json.NewDecoder(io.LimitReader(stdin, maxState)).Decode(&state); err != nil {
		return nil, fmt.Errorf("read the container's state: %w", err)
	}
	root, err := rootOf(state.Bundle)
	if err != nil {
		return nil, err
	}
	return template.FuncMap{
		"id":         func() string { return state.ID },
		"pid":        func() int { return state.Pid },
		"bundle":     func() string { return state.Bundle },
		"rootfs":     func() string { return root },
		"status":     func() string { return string(state.Status) },
		"annotation": func(key string) string { return state.Annotations[key] },
	}, nil
}

func rootOf(bundle string) (string, error) {
	f, err := os.Open(filepath.Join(bundle, "config.json"))
	if err != nil {
		return "", err
	}
	defer f.Close()
	var spec struct {
		Root *specs.Root `json:"root"`
	}
	if err := json.NewDecoder(io.LimitReader(f, maxState)).Decode(&spec); err != nil {
		return "", fmt.Errorf("read %s: %w", f.Name(), err)
	}
	switch {
	case spec.Root == nil:
		return "", nil
	case filepath.IsAbs(spec.Root.Path):
		return spec.Root.Path, nil
	}
	return filepath.Join(bundle, spec.Root.Path), nil
}

// fill renders each text that has something to put in.
func fill(texts []string, words template.FuncMap) ([]string, error) {
	out := slices.Clone(texts)
	for i, text := range texts {
		if !strings.Contains(text, "{{") {
			continue
		}
		t, err := template.New("argument").Funcs(words).Parse(text)
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		if err := t.Execute(&b, nil); err != nil {
			return nil, err
		}
		out[i] = b.String()
	}
	return out, nil
}
