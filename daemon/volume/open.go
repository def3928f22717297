package volume

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"gantry/api/database"
	"gantry/api/failpoint"
)

const removedPrefix = ".removed-"

// New opens the volumes below root (data-root/volumes), which it makes if need be, and
// puts right what a crash has left.
func New(root string, db database.Records, ev Publisher, log *slog.Logger) (*Service, error) {
	s := &Service{root: root, db: db, events: ev, log: log, vols: map[string]*entry{}, unreadable: map[string]bool{}}
	if err := os.MkdirAll(root, 0o701); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		return nil, fmt.Errorf("load volumes: %w", err)
	}
	if err := s.reconcile(); err != nil {
		return nil, fmt.Errorf("check volumes in %s: %w", root, err)
	}
	return s, nil
}

// Own lets new volumes belong to uid and gid, root's of the containers. Call it before the
// first volume is made.
func (s *Service) Own(uid, gid int) { s.uid, s.gid = uid, gid }

func (s *Service) load() error {
	return s.db.Update(func(tx *bbolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists(bucket)
		if err != nil {
			return err
		}
		return b.ForEach(func(k, v []byte) error {
			var r record
			if err := json.Unmarshal(v, &r); err != nil || r.Name != string(k) {
				s.log.Error("record of a volume cannot be read; it and its directory are left alone",
					"volume", string(k), "path", s.dir(string(k)), "err", err)
				s.unreadable[string(k)] = true
				return nil
			}
			s.vols[r.Name] = newEntry(r)
			return nil
		})
	})
}

func newEntry(r record) *entry {
	return &entry{rec: r, users: map[string]bool{}, mounts: map[string]int{}}
}

func (s *Service) reconcile() error {
	dirs, err := os.ReadDir(s.root)
	if err != nil {
		return err
	}
	for _, d := range dirs {
		if name, ok := strings.CutPrefix(d.Name(), removedPrefix); ok {
			err = s.settleRemoved(d.Name(), name)
		} else if s.vols[d.Name()] == nil && !s.unreadable[d.Name()] && d.IsDir() {
			s.settleUnknown(d.Name())
		}
		if err != nil {
			return err
		}
	}
	for name, e := range s.vols {
		if err := s.settleKnown(name, e); err != nil {
			return err
		}
	}
	return nil
}

// settleRemoved ends a removal, or takes it back when its record is still there.
func (s *Service) settleRemoved(dir, name string) error {
	if i := strings.LastIndexByte(name, '-'); i >= 0 {
		name = name[:i]
	}
	_, err := os.Lstat(s.dir(name))
	if s.vols[name] != nil && errors.Is(err, fs.ErrNotExist) {
		return os.Rename(filepath.Join(s.root, dir), s.dir(name))
	}
	return os.RemoveAll(filepath.Join(s.root, dir))
}

// dropEmpty removes a volume's directories unless there is something in them, which
// has been there before the volume.
func (s *Service) dropEmpty(name string) error {
	_ = os.Remove(s.data(name))
	return os.Remove(s.dir(name))
}

// settleUnknown drops a directory that a creation did not live to record.
func (s *Service) settleUnknown(name string) {
	if err := s.dropEmpty(name); err != nil {
		s.log.Warn("directory among the volumes has no record, left alone", slog.String("path", s.dir(name)))
	}
}

// settleKnown makes a lost directory again, empty, and finds out whether its mount is there.
func (s *Service) settleKnown(name string, e *entry) error {
	there, mounted := lookAt(s.data(name))
	if !there {
		s.log.Warn("content of volume is lost", slog.String("volume", name))
		if err := s.makeDirs(name); err != nil {
			return err
		}
	}
	e.mounted = mounted && needsMount(e.rec.Options)
	return nil
}

// lookAt says whether there is a directory and whether something is mounted on it,
// without asking what is mounted, which may not answer any more.
func lookAt(path string) (there, mounted bool) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_STATX_DONT_SYNC|unix.AT_NO_AUTOMOUNT, unix.STATX_TYPE, &st)
	return !errors.Is(err, fs.ErrNotExist), err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// makeDirs makes a volume's directories and syncs their names to disk.
func (s *Service) makeDirs(name string) error {
	if err := os.Mkdir(s.dir(name), 0o701); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	failpoint.Hit("daemon/volume.create.directory")
	if err := os.Chmod(s.dir(name), 0o701); err != nil { // whatever the umask
		return err
	}
	err := os.Mkdir(s.data(name), 0o755)
	if err == nil {
		err = os.Lchown(s.data(name), s.uid, s.gid)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := os.Chmod(s.data(name), 0o755); err != nil {
		return err
	}
	return errors.Join(syncDir(s.dir(name)), syncDir(s.root))
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
