package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"gantry/daemon/config"
)

// lockRoots keeps other engines out of the directories of c, which it makes, until the
// process ends or the lock is given back.
func lockRoots(c *config.Config) (unlock func(context.Context) error, err error) {
	var held []*os.File
	unlock = func(context.Context) (err error) {
		for _, f := range held {
			err = errors.Join(err, f.Close())
		}
		return err
	}
	for _, dir := range []struct {
		path string
		mode os.FileMode
	}{{c.DataRoot, 0o710}, {c.ExecRoot, 0o711}} {
		f, err := lockDir(dir.path, dir.mode)
		if err != nil {
			return nil, errors.Join(err, unlock(context.Background()))
		}
		held = append(held, f)
	}
	return unlock, nil
}

func lockDir(path string, mode os.FileMode) (*os.File, error) {
	if err := os.MkdirAll(path, mode); err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, nil
	}
	f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%s is in use by another engine", path)
	}
	return nil, fmt.Errorf("lock %s: %w", path, err)
}
