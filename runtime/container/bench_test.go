package container_test

import (
	"context"
	"encoding/json"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"

	"gantry/runtime/container"
)

// BenchmarkStart measures what a shim does between being asked for a container and the
// container's command being executed: create and start, with cgroups and Docker's default
// seccomp profile. What follows is not measured.
func BenchmarkStart(b *testing.B) {
	bed, spec := benchBed(b)
	config, err := json.Marshal(spec)
	if err != nil {
		b.Fatal(err)
	}
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		c, err := container.Create(b.Context(), container.CreateOptions{ID: "c1", Bundle: bed.bundle, Root: bed.root, Spec: spec, Config: config})
		if err != nil {
			b.Fatal(err)
		}
		if err := c.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
		bed.delete(c)
	}
	median(b, took)
}

// BenchmarkExec measures the same of another process in a running container.
func BenchmarkExec(b *testing.B) {
	bed, spec := benchBed(b)
	spec.Process.Args = []string{"sleep", "1000"}
	c, err := bed.create(spec, nil)
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	process := *spec.Process
	process.Args = []string{"true"}
	var took []time.Duration
	for b.Loop() {
		began := time.Now()
		p, err := c.Exec(context.Background(), container.ExecOptions{Process: &process})
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
		bed.wait(p.PidFD)
		p.PidFD.Close()
	}
	median(b, took)
}

func benchBed(b *testing.B) (*bed, *specs.Spec) {
	b.Helper()
	bed := newBed(b)
	state, err := os.MkdirTemp("/run", "gantry-bench") // in memory, as states are
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(state) })
	bed.root = state
	spec := bed.spec("true")
	if spec.Linux.Seccomp, err = seccomp.GetDefaultProfile(spec); err != nil {
		b.Fatal(err)
	}
	return bed, spec
}

func median(b *testing.B, took []time.Duration) {
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "ms-median")
	b.ReportMetric(float64(took[0].Microseconds())/1000, "ms-least")
}
