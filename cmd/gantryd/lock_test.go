package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"gantry/daemon/config"
)

func TestLockRoots(t *testing.T) {
	dir := t.TempDir()
	roots := func(data, exec string) *config.Config {
		return &config.Config{DataRoot: filepath.Join(dir, data), ExecRoot: filepath.Join(dir, exec)}
	}
	unlock, err := lockRoots(roots("d1", "e1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []*config.Config{roots("d1", "e2"), roots("d2", "e1")} {
		if _, err := lockRoots(c); err == nil || !strings.HasSuffix(err.Error(), " is in use by another engine") {
			t.Errorf("%s, %s: %v", c.DataRoot, c.ExecRoot, err)
		}
	}
	if err := unlock(context.Background()); err != nil {
		t.Fatal(err)
	}
	unlock, err = lockRoots(roots("d2", "e1")) // what failed above holds nothing
	if err != nil {
		t.Fatal(err)
	}
	if err := unlock(context.Background()); err != nil {
		t.Error(err)
	}
}
