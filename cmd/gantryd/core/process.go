package core

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"gantry/libctr/server"
)

// prepare makes the process what the configuration wants it to be.
func prepare(cfg server.Config) error {
	syscall.Umask(0o022)
	if cfg.OOMScore != 0 {
		if err := setOOMScore(cfg.OOMScore); err != nil { // a lower one needs a capability
			cfg.Log.Error("change OOM score", "score", cfg.OOMScore, "err", err)
		}
	}
	if cfg.Cgroup.Path != "" {
		if err := join(cfg.Cgroup.Path); err != nil {
			return fmt.Errorf("cgroup %s: %w", cfg.Cgroup.Path, err)
		}
	}
	if cfg.TempDir != "" {
		if err := os.MkdirAll(cfg.TempDir, 0o700); err != nil {
			return fmt.Errorf("temporary directory: %w", err)
		}
		if err := os.Setenv("TMPDIR", cfg.TempDir); err != nil {
			return err
		}
	}
	if cfg.Subreaper {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return fmt.Errorf("become subreaper: %w", err)
		}
	}
	return nil
}

func setOOMScore(score int) error {
	return os.WriteFile("/proc/self/oom_score_adj", []byte(strconv.Itoa(score)), 0)
}

const cgroupRoot = "/sys/fs/cgroup"

// join moves the process to a cgroup, which is made, of every hierarchy.
func join(path string) error {
	roots, err := hierarchies()
	if err != nil {
		return err
	}
	for _, root := range roots {
		dir := filepath.Join(root, filepath.Join("/", path))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := inherit(root, dir); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte(strconv.Itoa(os.Getpid())), 0); err != nil {
			return err
		}
	}
	return nil
}

// hierarchies are where cgroups are: the one of version 2, or each of version 1, which
// are directories side by side, some of them under two names.
func hierarchies() ([]string, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &fs); err != nil {
		return nil, err
	}
	if fs.Type == unix.CGROUP2_SUPER_MAGIC {
		return []string{cgroupRoot}, nil
	}
	entries, err := os.ReadDir(cgroupRoot)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, e := range entries {
		dir := filepath.Join(cgroupRoot, e.Name())
		if err := unix.Statfs(dir, &fs); err == nil && e.IsDir() && fs.Type == unix.CGROUP_SUPER_MAGIC {
			out = append(out, dir)
		}
	}
	return out, nil
}

// inherit gives a new cpuset what its parents have: nothing can join one without.
func inherit(root, dir string) error {
	if dir == root {
		return nil
	}
	if err := inherit(root, filepath.Dir(dir)); err != nil {
		return err
	}
	for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, os.ErrNotExist) || len(own) > 1 {
			continue
		}
		if err != nil {
			return err
		}
		above, err := os.ReadFile(filepath.Join(filepath.Dir(dir), name))
		if err != nil {
			return err
		}
		if len(above) > 1 {
			if err := os.WriteFile(filepath.Join(dir, name), above, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// reap takes the ends of orphans that the kernel has given to this process because it
// is a subreaper, and of nobody else: they become children of the process's first
// thread, and what the process starts itself are children of other threads, which keep
// their ends for those who wait for them. Called on the first thread.
func reap(log *slog.Logger) {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, unix.WNOHANG|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || pid <= 0:
			return
		}
		log.Debug("orphan ended", "pid", pid, "status", int(status))
	}
}
