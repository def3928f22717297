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

// signalAll kills what list gives until it gives nothing that has not been
// killed. Each process gets the signal once.
func signalAll(ctx context.Context, list func() ([]int, error)) error {
	sent := map[int]bool{}
	for {
		pids, err := list()
		if err != nil {
			return err
		}
		fresh := false
		for _, pid := range pids {
			if sent[pid] {
				continue
			}
			fresh = true
			sent[pid] = true
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return fmt.Errorf("kill %d: %w", pid, err)
			}
		}
		if !fresh {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
	}
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
