package output

import (
	"errors"
	"io/fs"
	"os"
	"slices"

	"gantry/api/failpoint"
	"gantry/api/logfile"
)

// packer compresses rotated files, one at a time and the newest first, beside the
// output and never in its way: a log that rotates faster keeps files as they are, which
// are then removed in their turn. All of it is guarded by Log.lane.
type packer struct {
	busy   bool
	closed bool
	failed uint64 // the newest generation that could not be compressed
}

// packing is one file on its way.
type packing struct {
	generation uint64
	src, dst   *os.File
}

func (l *Log) packName() string { return l.path + ".pack" }

// pack begins to compress what there is. It is called under lane.
func (l *Log) pack() {
	if l.host.Compress == nil || l.packer.busy || l.packer.closed {
		return
	}
	l.packer.busy = true
	go l.packAll() // ends when there is no more, or after the file at hand when closed
}

func (l *Log) packAll() {
	for {
		p := l.nextPacking()
		if p == nil {
			return
		}
		err := l.host.Compress(l.format, p.dst, p.src)
		err = errors.Join(err, p.dst.Close())
		failpoint.Hit("shim/output.pack.written")
		l.packed(p, err)
		p.src.Close()
	}
}

// nextPacking opens the newest file that is to be compressed; nil when there is none.
func (l *Log) nextPacking() *packing {
	l.lane.Lock()
	defer l.lane.Unlock()
	for i := 1; i < len(l.gens) && !l.packer.closed; i++ {
		g := l.gens[len(l.gens)-1-i].num
		if g <= l.packer.failed {
			continue
		}
		p, err := l.openPacking(i, g)
		if err == nil {
			return p
		}
		if !errors.Is(err, fs.ErrNotExist) {
			l.packer.failed = g
			l.host.warn("compress log", "err", err)
		}
	}
	l.packer.busy = false
	return nil
}

// openPacking opens the i-th rotated file and the place for its compressed form; an
// error that is fs.ErrNotExist says that it is compressed already. It is called under lane.
func (l *Log) openPacking(i int, generation uint64) (*packing, error) {
	src, err := os.Open(logfile.Name(l.path, i))
	if err != nil {
		return nil, err
	}
	// One that a process before this one has begun may still be written to.
	if err := os.Remove(l.packName()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		src.Close()
		return nil, err
	}
	dst, err := os.OpenFile(l.packName(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		src.Close()
		return nil, err
	}
	if n, ok := logfile.First(src); ok {
		logfile.SetFirst(dst, n) //nolint:errcheck // it goes without
	}
	return &packing{generation, src, dst}, nil
}

// packed puts the compressed file in the place of the other, wherever rotation has moved
// that meanwhile.
func (l *Log) packed(p *packing, err error) {
	l.lane.Lock()
	defer l.lane.Unlock()
	i := slices.IndexFunc(l.gens, func(g generation) bool { return g.num == p.generation })
	name := logfile.Name(l.path, len(l.gens)-1-i)
	if err == nil && i >= 0 && !l.packer.closed && isAt(p.src, name) {
		if err = os.Rename(l.packName(), name+logfile.Suffix); err == nil {
			failpoint.Hit("shim/output.pack.named")
			err = os.Remove(name)
		}
	} else {
		os.Remove(l.packName())
	}
	if err != nil && !l.packer.closed {
		l.packer.failed = p.generation
		l.host.warn("compress log", "err", err)
	}
}

// isAt says whether the file still has this name; else somebody else is at work here.
func isAt(f *os.File, name string) bool {
	a, errA := f.Stat()
	b, errB := os.Stat(name)
	return errA == nil && errB == nil && os.SameFile(a, b)
}
