package forward

import (
	"log/slog"
	"time"

	"gantry/api/logfile"
)

// losses are entries that will not be sent.
type losses struct {
	rotated  uint64 // that were rotated away before they were sent
	unknown  bool   // there may be more: nobody has counted them
	from, to time.Time
	refused  int // that the target can't take
	why      string
}

func (l *losses) any() bool { return l.rotated > 0 || l.unknown || l.refused > 0 }

func (l *losses) refuse(err error) {
	l.refused++
	l.why = err.Error()
}

func (l *losses) tell(log *slog.Logger) {
	if l.rotated > 0 || l.unknown {
		log.Warn("entries of a log were rotated away before they could be forwarded",
			"entries", l.rotated, "perhaps-more", l.unknown, "after", l.from, "before", l.to)
	}
	if l.refused > 0 {
		log.Warn("entries of a log cannot be forwarded", "entries", l.refused, "err", l.why)
	}
}

// cross is called before e, the first entry that is given of another file: what lay
// between has been lost.
func (f *forwarder) cross(generation uint64, e *logfile.Entry) {
	first, counted, before := f.firstOf(generation)
	var missing uint64
	if counted && first > f.at.index {
		missing = first - f.at.index
	}
	unknown := !counted && !before
	if counted {
		f.at.index = first
	}
	if missing == 0 && !unknown {
		return
	}
	l := &f.at.lost
	if l.rotated == 0 && !l.unknown {
		l.from = f.at.last
	}
	l.to, l.rotated, l.unknown = e.Time, l.rotated+missing, l.unknown || unknown
}

// firstOf is the number of entries before those of a file, if they have been counted,
// and whether the file before it is still there, or has never been.
func (f *forwarder) firstOf(generation uint64) (n uint64, counted, before bool) {
	files, err := f.c.Format.Open(f.c.Path)
	if err != nil {
		return 0, false, false
	}
	defer logfile.Close(files)
	for _, file := range files {
		before = before || file.Generation == f.at.pos.Generation
		if file.Generation == generation {
			n, counted = file.First()
		}
	}
	return n, counted, before || f.at.pos.Generation == 0
}
