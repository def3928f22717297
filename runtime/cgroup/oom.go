package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

var errNoMemory = fmt.Errorf("no memory controller tells of OOM here: %w", errdefs.ErrNotImplemented)

// oom registers an eventfd with memory.oom_control. The kernel signals it once
// more when the cgroup goes.
func (c *legacy) oom() (<-chan struct{}, func(), error) {
	dir, ok := c.dirOf("memory")
	if !ok {
		return nil, nil, errNoMemory
	}
	control, err := os.Open(filepath.Join(dir, "memory.oom_control"))
	if err != nil {
		return nil, nil, notFound(err)
	}
	defer control.Close() // the registration keeps what it needs
	efd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, nil, fmt.Errorf("eventfd: %w", err)
	}
	f := os.NewFile(uintptr(efd), "oom")
	if err := writeFile(dir, "cgroup.event_control", fmt.Sprintf("%d %d", efd, control.Fd())); err != nil {
		f.Close()
		return nil, nil, notFound(err)
	}
	gone := func() bool { return !exists(dir, "memory.oom_control") }
	events, stop := watch(f, func() (happened, end bool) {
		end = gone()
		return !end, end
	})
	return events, stop, nil
}

func (c *legacy) oomKilled() (uint64, error) {
	dir, ok := c.dirOf("memory")
	if !ok {
		return 0, errNoMemory
	}
	return killCount(dir, "memory.oom_control")
}

func killCount(dir, file string) (uint64, error) {
	s, err := readFile(dir, file)
	if err != nil {
		return 0, notFound(err)
	}
	return flat(s)["oom_kill"], nil
}

// oom watches memory.events, which counts what happens here and below; a rise of
// oom_kill is an event. The kernel does not tell of a control file's end, only of a
// directory's, to who watches the one above. That one is watched once
// cgroup.events tells that no process is left, so that the removal of one
// container does not wake the watches of all others.
func (c *unified) oom() (<-chan struct{}, func(), error) {
	last, err := killCount(c.path, "memory.events")
	if err != nil {
		if errdefs.IsNotFound(err) && c.exists() {
			err = errNoMemory
		}
		return nil, nil, err
	}
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, nil, fmt.Errorf("inotify: %w", err)
	}
	f := os.NewFile(uintptr(fd), "memory.events")
	for _, file := range []string{"memory.events", "cgroup.events"} {
		if _, err := unix.InotifyAddWatch(fd, filepath.Join(c.path, file), unix.IN_MODIFY); err != nil {
			f.Close()
			return nil, nil, fmt.Errorf("watch %s: %w", file, notFound(err))
		}
	}
	if err := c.watchEnd(f); err != nil {
		f.Close()
		return nil, nil, err
	}
	events, stop := watch(f, func() (happened, end bool) {
		n, err := killCount(c.path, "memory.events")
		if err == nil {
			happened, last = n > last, n
			err = c.watchEnd(f)
		}
		return happened, err != nil || !c.exists()
	})
	return events, stop, nil
}

// watchEnd lets f tell of the directory's removal if it holds no process.
func (c *unified) watchEnd(f *os.File) error {
	s, err := readFile(c.path, "cgroup.events")
	if err != nil {
		return notFound(err)
	}
	if flat(s)["populated"] != 0 {
		return nil
	}
	conn, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var added error
	err = conn.Control(func(fd uintptr) {
		_, added = unix.InotifyAddWatch(int(fd), filepath.Dir(c.path), unix.IN_DELETE|unix.IN_ONLYDIR)
	})
	return errors.Join(err, added)
}

func (c *unified) oomKilled() (uint64, error) { return killCount(c.path, "memory.events") }

// watch reads f in a goroutine, asks look what each read means, and ends when
// look says so, f fails or stop closes it. stop waits for the goroutine.
func watch(f *os.File, look func() (happened, end bool)) (<-chan struct{}, func()) {
	events := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer close(events)
		defer f.Close()
		buf := make([]byte, 4096)
		for {
			if _, err := f.Read(buf); err != nil {
				return
			}
			happened, end := look()
			if happened {
				select {
				case events <- struct{}{}:
				default: // one is waiting to be read and tells the same
				}
			}
			if end {
				return
			}
		}
	}()
	return events, sync.OnceFunc(func() {
		f.Close()
		<-done
	})
}
