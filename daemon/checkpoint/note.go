package checkpoint

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
)

// Note is a checkpoint under way, in a file, so that the next daemon can end what a dead
// one has begun.
type Note struct {
	Draft Draft
	Exit  bool // the container ends with it
}

// maxNote bounds the file.
const maxNote = 64 << 10

// Save writes the note. It is not synced: what ran has ended when the power is cut.
func (n Note) Save(path string) error {
	raw, err := json.Marshal(n)
	if err != nil {
		return err
	}
	return os.WriteFile(path, raw, 0o600)
}

// LoadNote reads a note; ok is false when there is none. One that is no good is an error.
func LoadNote(path string) (n Note, ok bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return n, false, nil
	}
	if err != nil {
		return n, false, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxNote))
	if err == nil {
		err = json.Unmarshal(raw, &n)
	}
	if err == nil && !n.Draft.valid() {
		err = errors.New("not a checkpoint's")
	}
	if err != nil {
		return n, false, fmt.Errorf("note of a checkpoint under way: %w", err)
	}
	return n, true, nil
}
