package name

import (
	"sort"
	"strings"
	"sync"

	"gantry/api/errdefs"
)

// Index maps ids and names to ids. It is the one place where a name is taken: the
// holder of a name is whoever reserved it, even before its record exists.
// Names are kept without the leading slash. Safe for concurrent use; never blocks.
type Index struct {
	mu    sync.RWMutex
	ids   []string          // guarded by mu; sorted
	names map[string]string // guarded by mu; name to id
}

// NewIndex returns an empty index.
func NewIndex() *Index { return &Index{names: map[string]string{}} }

// Reserve takes name for id. It returns the holder and false when another id has
// it; taking a name again for the same id is fine.
func (x *Index) Reserve(name, id string) (holder string, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if holder, taken := x.names[name]; taken && holder != id {
		return holder, false
	}
	x.names[name] = id
	return id, true
}

// Release gives name up if id holds it.
func (x *Index) Release(name, id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.names[name] == id {
		delete(x.names, name)
	}
}

// Add makes id findable by itself and its prefixes.
func (x *Index) Add(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i := sort.SearchStrings(x.ids, id)
	if i < len(x.ids) && x.ids[i] == id {
		return
	}
	x.ids = append(x.ids, "")
	copy(x.ids[i+1:], x.ids[i:])
	x.ids[i] = id
}

// Remove forgets id; its names are released apart.
func (x *Index) Remove(id string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	i := sort.SearchStrings(x.ids, id)
	if i < len(x.ids) && x.ids[i] == id {
		x.ids = append(x.ids[:i], x.ids[i+1:]...)
	}
}

// Find resolves ref: a full id, else a name with or without its slash, else an id
// prefix. Errors have Docker's words: InvalidArgument for an empty or ambiguous ref,
// NotFound otherwise.
func (x *Index) Find(ref string) (id string, err error) {
	if ref == "" {
		return "", errdefs.InvalidArgument("invalid name or ID supplied: %q", ref)
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	i := sort.SearchStrings(x.ids, ref)
	if i < len(x.ids) && x.ids[i] == ref {
		return ref, nil
	}
	if id, ok := x.names[Trim(ref)]; ok && x.known(id) {
		return id, nil
	}
	return x.prefix(ref, i)
}

// ByPrefix resolves an id prefix alone, as Find does.
func (x *Index) ByPrefix(ref string) (id string, err error) {
	if ref == "" {
		return "", errdefs.InvalidArgument("prefix can't be empty")
	}
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.prefix(ref, sort.SearchStrings(x.ids, ref))
}

func (x *Index) prefix(ref string, i int) (string, error) {
	if i >= len(x.ids) || !strings.HasPrefix(x.ids[i], ref) {
		return "", errdefs.NotFound("No such container: %s", ref)
	}
	if i+1 < len(x.ids) && strings.HasPrefix(x.ids[i+1], ref) {
		return "", errdefs.InvalidArgument("multiple IDs found with provided prefix: %s", ref)
	}
	return x.ids[i], nil
}

// known says whether id was added; a name alone is only a reservation.
func (x *Index) known(id string) bool {
	i := sort.SearchStrings(x.ids, id)
	return i < len(x.ids) && x.ids[i] == id
}
