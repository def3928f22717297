package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// maxNote bounds a file that we put beside CRIU's images.
const maxNote = 1 << 20

func writeNote(dir, name string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
		return fmt.Errorf("note beside the images: %w", err)
	}
	return nil
}

func readNote(dir, name string, v any) error {
	f, err := os.Open(filepath.Join(dir, name))
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxNote+1))
	switch {
	case err != nil:
		return err
	case len(b) > maxNote:
		return fmt.Errorf("read %s: more than %d bytes", f.Name(), maxNote)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("read %s: %w", f.Name(), err)
	}
	return nil
}

// places are the real paths, in the container, of mounts from outside, by what the spec
// calls them. A dump finds them in the running root; who restores may have the root
// mounted nowhere.
type places map[string]string

// note notes what real finds.
func (p places) note(real resolver) resolver {
	return func(path string) (string, error) {
		at, err := real(path)
		if err == nil {
			p[path] = at
		}
		return at, err
	}
}

// known resolves what has been noted, and has otherwise look for the rest.
func (p places) known(otherwise resolver) resolver {
	return func(path string) (string, error) {
		if at := p[path]; at != "" {
			return at, nil
		}
		return otherwise(path)
	}
}

// loadPlaces reads the places of a dump; one of runc has noted none.
func loadPlaces(dir string) (p places, err error) {
	err = readNote(dir, placesName, &p)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	return p, err
}
