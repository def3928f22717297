package task

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// trash are directories on their way out, under names that the next start of the core
// removes. What could not be removed, for want of a descriptor say, is tried again with
// the next.
type trash struct {
	mu   sync.Mutex
	last uint64   // number of the last name
	left []string // moved away and still there
}

// take moves a directory to a name of the trash beside it; "" is one that was not there.
func (t *trash) take(path string) (hidden string, err error) {
	t.mu.Lock()
	t.last++
	hidden = filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.%d", filepath.Base(path), t.last))
	t.mu.Unlock()
	err = os.Rename(path, hidden)
	if errors.Is(err, os.ErrNotExist) {
		return "", nil
	}
	return hidden, err
}

// empty removes what take has hidden, and what was left before; its error is only about
// the former.
func (t *trash) empty(hidden string) error {
	t.mu.Lock()
	old := t.left
	t.left = nil
	t.mu.Unlock()
	err := os.RemoveAll(hidden)
	if err != nil {
		old = append(old, hidden)
	}
	var left []string
	for _, path := range old {
		if os.RemoveAll(path) != nil {
			left = append(left, path)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left = append(t.left, left...)
	return err
}
