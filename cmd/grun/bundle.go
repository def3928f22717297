package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/bundle"
)

// maxJSON bounds config.json, a process and resources.
const maxJSON = 16 << 20

// readJSON decodes the file name, or stdin for "-", into v.
func readJSON(name string, stdin io.Reader, v any) error {
	in := stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	} else {
		name = "standard input"
	}
	b, err := io.ReadAll(io.LimitReader(in, maxJSON+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	if len(b) > maxJSON {
		return fmt.Errorf("read %s: more than %d bytes", name, maxJSON)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", name, err)
	}
	return nil
}

// loadBundle makes dir absolute and reads its specification; raw is its file.
func loadBundle(dir string) (abs string, spec *specs.Spec, raw []byte, err error) {
	if abs, err = filepath.Abs(dir); err != nil {
		return "", nil, nil, err
	}
	spec, raw, err = bundle.Read(abs)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil, nil, fmt.Errorf("JSON specification file %s not found", filepath.Join(abs, configName))
	}
	return abs, spec, raw, err
}

const configName = bundle.ConfigName
