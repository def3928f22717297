package cgroup

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The formats of the counters' files. Parsers pass over what they don't
// understand: later kernels add lines and keys.

// flat reads lines of "key value".
func flat(s string) map[string]uint64 {
	m := map[string]uint64{}
	for line := range strings.Lines(s) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			if n, err := parseUint(v); err == nil {
				m[k] = n
			}
		}
	}
	return m
}

// nestedLine is a line of "name key=value key=value".
type nestedLine struct {
	name string
	vals map[string]string
}

func nested(s string) (ls []nestedLine) {
	for line := range strings.Lines(s) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		l := nestedLine{f[0], map[string]string{}}
		for _, kv := range f[1:] {
			if k, v, ok := strings.Cut(kv, "="); ok {
				l.vals[k] = v
			}
		}
		ls = append(ls, l)
	}
	return ls
}

func (l nestedLine) uint(key string) uint64 {
	n, _ := parseUint(l.vals[key])
	return n
}

// numbers reads a device's "major:minor".
func numbers(s string) (major, minor uint64, ok bool) {
	a, b, found := strings.Cut(s, ":")
	major, e1 := strconv.ParseUint(a, 10, 64)
	minor, e2 := strconv.ParseUint(b, 10, 64)
	return major, minor, found && e1 == nil && e2 == nil
}

// statReader reads many files of one cgroup and keeps the first error. A file
// that is not there reads as nothing: not every kernel counts everything.
type statReader struct {
	dirOf func(controller string) (string, bool)
	err   error
}

func (r *statReader) text(controller, file string) string {
	dir, ok := r.dirOf(controller)
	if !ok {
		return ""
	}
	s, err := readFile(dir, file)
	if err != nil {
		absent := errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENODEV)
		if r.err == nil && !absent {
			r.err = err
		}
		return ""
	}
	return s
}

// rare is text of a file that this kernel may not make in any cgroup.
func (r *statReader) rare(controller, file string) string {
	if lacking.has(file) {
		return ""
	}
	s := r.text(controller, file)
	if s == "" && !r.has(controller, file) && r.has(controller, "cgroup.procs") {
		lacking.add(file)
	}
	return s
}

// lacking are the files that this kernel has been found not to make: there are many names
// for the same counters, and looking for one costs as much as reading another. A module
// may bring them later, so they are looked for again after a while.
var lacking = absentFiles{since: map[string]time.Time{}}

type absentFiles struct {
	mu    sync.Mutex
	since map[string]time.Time // guarded by mu
}

// lookAgain is how long a file is taken for one that is not there.
const lookAgain = time.Minute

func (a *absentFiles) has(file string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	at, ok := a.since[file]
	return ok && time.Since(at) < lookAgain
}

func (a *absentFiles) add(file string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.since[file] = time.Now()
}

func (r *statReader) uint(controller, file string) uint64 {
	n, _ := parseUint(r.text(controller, file))
	return n
}

func (r *statReader) flat(controller, file string) map[string]uint64 {
	return flat(r.text(controller, file))
}

func (r *statReader) has(controller, file string) bool {
	dir, ok := r.dirOf(controller)
	return ok && exists(dir, file)
}

// pageSizes lists the hugepage sizes ("2MB") that a directory counts, by a
// file's suffix.
func (r *statReader) pageSizes(suffix string) (sizes []string) {
	dir, ok := r.dirOf("hugetlb")
	if !ok {
		return nil
	}
	ents, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	for _, e := range ents {
		s, pre := strings.CutPrefix(e.Name(), "hugetlb.")
		s, suf := strings.CutSuffix(s, suffix)
		if pre && suf && filepath.Ext(s) == "" {
			sizes = append(sizes, s)
		}
	}
	return sizes
}

func rdmaEntries(s string) (es []RdmaEntry) {
	for _, l := range nested(s) {
		es = append(es, RdmaEntry{Device: l.name, HcaHandles: clamp32(l.uint("hca_handle")), HcaObjects: clamp32(l.uint("hca_object"))})
	}
	return es
}

func clamp32(n uint64) uint32 { return uint32(min(n, 1<<32-1)) }
