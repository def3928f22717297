package cgroup

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What a directory of any version can do with its processes.

// bound is how long freezing and removing may take when ctx sets no end.
const bound = 10 * time.Second

// again waits a little longer each time: 50 µs doubled up to 20 ms.
type again struct {
	wait time.Duration
}

func (a *again) sleep(ctx context.Context) error {
	a.wait = min(max(2*a.wait, 50*time.Microsecond), 20*time.Millisecond)
	t := time.NewTimer(a.wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// addPid writes to cgroup.procs. EINVAL means a task that is still being made.
func addPid(dir string, pid int) error {
	var err error
	for range 5 {
		if err = writeFile(dir, "cgroup.procs", strconv.Itoa(pid)); !errors.Is(err, unix.EINVAL) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return err
}

// walk calls f for dir and all directories below, children first. What vanishes
// on the way is passed over.
func walk(dir string, f func(dir string) error) error {
	ents, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range ents {
		if !e.IsDir() {
			continue
		}
		if err := walk(filepath.Join(dir, e.Name()), f); err != nil {
			return err
		}
	}
	return f(dir)
}

// pidsBelow lists the processes of dir and below; those that this pid namespace
// can't name (0) are left out.
func pidsBelow(dir string) ([]int, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, notFound(err)
	}
	pids := []int{}
	err := walk(dir, func(d string) error {
		s, err := readFile(d, "cgroup.procs")
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ENODEV):
			return nil // removed meanwhile
		case errors.Is(err, unix.EOPNOTSUPP):
			s, err = readFile(d, "cgroup.threads") // a threaded v2 cgroup
		}
		if err != nil {
			return err
		}
		for f := range strings.FieldsSeq(s) {
			n, err := strconv.Atoi(f)
			if err != nil {
				return fmt.Errorf("%s/cgroup.procs: %w", d, err)
			}
			if n > 0 {
				pids = append(pids, n)
			}
		}
		return nil
	})
	slices.Sort(pids)
	return slices.Compact(pids), err
}

// killAll kills what list gives until it gives nothing that has not been
// killed. Each process gets the signal once.
func killAll(ctx context.Context, list func() ([]int, error)) error {
	sent := map[int]bool{}
	for {
		pids, err := list()
		if err != nil {
			return err
		}
		pids = slices.DeleteFunc(pids, func(pid int) bool { return sent[pid] })
		if len(pids) == 0 {
			return nil
		}
		if _, err := signal(pids, list, unix.SIGKILL); err != nil {
			return err
		}
		for _, pid := range pids {
			sent[pid] = true
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
}

// pinned is how many processes are held by a descriptor at once.
const pinned = 64

// signal sends sig to pids, which list gave, and says how many got it. A number
// may have gone to a stranger since then: so a process is pinned by a pidfd
// first, and gets the signal only if list still gives its number after that.
func signal(pids []int, list func() ([]int, error), sig unix.Signal) (n int, err error) {
	var errs []error
	for some := range slices.Chunk(pids, pinned) {
		k, err := signalPinned(some, list, sig)
		n += k
		errs = append(errs, err)
	}
	return n, errors.Join(errs...)
}

func signalPinned(pids []int, list func() ([]int, error), sig unix.Signal) (n int, err error) {
	var errs []error
	fds := map[int]int{}
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		switch {
		case errors.Is(err, unix.ESRCH):
		case errors.Is(err, unix.ENOENT), errors.Is(err, unix.EINVAL): // a thread of a threaded v2 cgroup
			if unix.Kill(pid, sig) == nil {
				n++
			}
		case err != nil:
			errs = append(errs, fmt.Errorf("pidfd of %d: %w", pid, err))
		default:
			fds[pid] = fd
		}
	}
	still, err := list()
	if err != nil {
		return 0, err
	}
	for _, pid := range still {
		fd, ok := fds[pid]
		if !ok {
			continue
		}
		switch err := unix.PidfdSendSignal(fd, sig, nil, 0); {
		case err == nil:
			n++
		case !errors.Is(err, unix.ESRCH):
			errs = append(errs, fmt.Errorf("signal %d to %d: %w", sig, pid, err))
		}
	}
	return n, errors.Join(errs...)
}

// removeTree removes dir and all below. A directory is busy while a dying
// process is in it; that is waited for.
func removeTree(ctx context.Context, dir string) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	var wait again
	for {
		err := walk(dir, func(d string) error {
			err := unix.Rmdir(d)
			if err == nil || errors.Is(err, unix.ENOENT) {
				return nil
			}
			return &fs.PathError{Op: "rmdir", Path: d, Err: err}
		})
		if !errors.Is(err, unix.EBUSY) && !errors.Is(err, unix.ENOTEMPTY) {
			return err
		}
		if wait.sleep(ctx) != nil {
			return err
		}
	}
}
