package config

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"gantry/api/errdefs"
)

// Bounds of what is read.
const (
	maxFile  = 4 << 20 // bytes of one file
	maxFiles = 1000
)

// source is a file to read, and who has asked for it.
type source struct {
	path string
	from string // the file that imports it; "" for the main one
}

func (s source) wrap(err error) error {
	if s.from != "" {
		err = fmt.Errorf("%w (imported by %s)", err, s.from)
	}
	return err
}

func tooMany(s source) error {
	return s.wrap(errdefs.InvalidArgument("configuration %s: more than %d files", s.path, maxFiles))
}

// File is Load without the imports.
func (r Reader) File(ctx context.Context, path string) (Tree, error) {
	return r.file(ctx, source{path: path})
}

// file reads one file and brings it to Version.
func (r Reader) file(ctx context.Context, s source) (Tree, error) {
	data, err := readBounded(s.path)
	if err != nil {
		return nil, s.wrap(fmt.Errorf("read configuration: %w", err))
	}
	tree, err := r.Parse(ctx, s.path, data)
	if err != nil {
		return nil, s.wrap(err)
	}
	return tree, nil
}

func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, errdefs.InvalidArgument("%s is larger than %d bytes", path, maxFile)
	}
	return data, nil
}

// Parse is Load of one file's text, whose imports stay what they are. The name is for
// messages.
func (r Reader) Parse(ctx context.Context, name string, data []byte) (Tree, error) {
	if err := r.check(ctx, name, data); err != nil {
		return nil, err
	}
	tree := Tree{}
	if err := toml.Unmarshal(data, &tree); err != nil {
		return nil, located(name, err)
	}
	if err := r.migrate(ctx, name, tree); err != nil {
		return nil, err
	}
	return tree, nil
}

// check decodes the text into the schema: for the errors, and to tell unknown keys.
func (r Reader) check(ctx context.Context, name string, data []byte) error {
	err := decodeStrict(data, r.Schema())
	var unknown *toml.StrictMissingError
	if !errors.As(err, &unknown) {
		return located(name, err)
	}
	for i := range unknown.Errors {
		row, column := unknown.Errors[i].Position()
		r.log().WarnContext(ctx, "unknown key in configuration is ignored",
			"file", name, "row", row, "column", column, "key", strings.Join(unknown.Errors[i].Key(), "."))
	}
	return located(name, toml.Unmarshal(data, r.Schema())) // an unknown key hides a wrong type
}

func decodeStrict(data []byte, into any) error {
	return toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(into)
}

// located says where in a file an error is.
func located(name string, err error) error {
	if err == nil {
		return nil
	}
	var at *toml.DecodeError
	if errors.As(err, &at) {
		row, column := at.Position()
		return errdefs.InvalidArgument("configuration %s: line %d, column %d: %w", name, row, column, err)
	}
	return errdefs.InvalidArgument("configuration %s: %w", name, err)
}
