package output

import (
	"os"

	"gantry/api/logfile"
)

// index counts the entries of the current file.
type index struct {
	found int64 // bytes that were there when it was opened, not counted yet
	added uint64
}

// number notes at next, which will follow the current file, how many entries come before
// it; where that can't be noted or is not known it has no number. It is called under
// lane, before the current file gets another name.
func (l *Log) number(next *os.File) {
	defer func() { l.count = index{} }()
	current, err := os.Open(l.path)
	if err != nil {
		return
	}
	defer current.Close()
	first, known := logfile.First(current)
	if !known && len(l.gens) > 1 {
		return
	}
	n := l.count.added
	if l.count.found > 0 {
		found, err := l.format.Count(current, l.count.found)
		if err != nil {
			return
		}
		n += uint64(found)
	}
	logfile.SetFirst(next, first+n) //nolint:errcheck // see above
}
