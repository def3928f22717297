package storage

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// instant is a moment by the clock of the file system, which can be set, and by one that
// can't.
type instant struct {
	real, steady time.Duration
}

func now() instant {
	var real, steady unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_REALTIME, &real)
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &steady)
	return instant{time.Duration(real.Nano()), time.Duration(steady.Nano())}
}

// tick is more than the clock that files' times are of may be behind.
const tick = 50 * time.Millisecond

// covers says whether what a file's times say was done at changed was done before i, as
// far as the clock can tell: it may not have been set since.
func (i instant) covers(changed time.Time) bool {
	at := now()
	drift := (at.real - at.steady) - (i.real - i.steady)
	return drift.Abs() < tick/2 && changed.Before(time.Unix(0, int64(i.real)).Add(-tick))
}

// Sync puts the filesystem that the directories are on to disk.
func (d *Dirs) Sync() error {
	f, err := os.Open(d.root)
	if err != nil {
		return err
	}
	defer f.Close()
	began := now()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return err
	}
	d.synced.Store(&began)
	return nil
}

// SyncChanged is Sync for what was changed last at that time, which is nothing when an
// earlier one has begun after it: layers that were unpacked side by side go to the disk
// together.
func (d *Dirs) SyncChanged(changed time.Time) error {
	if last := d.synced.Load(); last != nil && last.covers(changed) {
		return nil
	}
	return d.Sync()
}
