package container_test

import (
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// TestNoResctrl: without the filesystem it is an error, and nothing is left. What is written
// to it is tested in package intelrdt.
func TestNoResctrl(t *testing.T) {
	if _, err := os.Stat("/sys/fs/resctrl"); err == nil {
		t.Skip("this machine may have resctrl mounted")
	}
	b := newBed(t)
	s := b.spec("true")
	s.Linux.IntelRdt = &specs.LinuxIntelRdt{L3CacheSchema: "L3:0=f"}
	_, err := b.create(s, nil)
	if !errdefs.IsFailedPrecondition(err) || !strings.Contains(err.Error(), "linux.intelRdt: no resctrl filesystem is mounted") {
		t.Errorf("error %v", err)
	}
}
