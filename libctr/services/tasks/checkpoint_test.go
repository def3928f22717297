package tasks

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	tasksapi "github.com/containerd/containerd/api/services/tasks/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/containerd/typeurl/v2"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/task"
)

// manager notes what tasks are restored from.
type manager struct {
	task.Manager
	fail, from string
}

func (m *manager) step(name string) error {
	if m.fail == name {
		return errors.New(name + " failed")
	}
	return nil
}

func (m *manager) Create(_ context.Context, o task.CreateOptions) (uint32, error) {
	m.from = o.Checkpoint
	return 0, m.step("create")
}

func (m *manager) Start(context.Context, string, string) (uint32, error) { return 1, m.step("start") }

func (m *manager) Delete(context.Context, string, string) (task.Exit, error) {
	return task.Exit{}, m.step("delete")
}

func (m *manager) Checkpoint(_ context.Context, _, dir string, _ typeurl.Any) error {
	return errors.Join(os.WriteFile(filepath.Join(dir, "image"), nil, 0o600), m.step("checkpoint"))
}

// archive has one checkpoint, of one file.
type archive struct{ fail bool }

func (a archive) Store(_ context.Context, _, dir string) ([]ocispec.Descriptor, error) {
	_, err := os.Stat(filepath.Join(dir, "image"))
	return []ocispec.Descriptor{{MediaType: "images"}}, err
}

func (a archive) Load(_ context.Context, _ ocispec.Descriptor, dir string) error {
	if a.fail {
		return errdefs.NotFound("no blob")
	}
	return os.WriteFile(filepath.Join(dir, "image"), nil, 0o600)
}

func TestUnpacked(t *testing.T) {
	for _, tc := range []struct {
		name, fail string
		end        func(s *Service, ctx context.Context) error
	}{
		{"started", "", func(s *Service, ctx context.Context) error {
			_, err := s.Start(ctx, &tasksapi.StartRequest{ContainerID: "c1"})
			return err
		}},
		{"start fails", "start", func(s *Service, ctx context.Context) error {
			if _, err := s.Start(ctx, &tasksapi.StartRequest{ContainerID: "c1"}); err == nil {
				return errors.New("it did not")
			}
			return nil
		}},
		{"deleted", "", func(s *Service, ctx context.Context) error {
			_, err := s.Delete(ctx, &tasksapi.DeleteTaskRequest{ContainerID: "c1"})
			return err
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m, dir := &manager{fail: tc.fail}, filepath.Join(t.TempDir(), "unpacked")
			s, err := New(m, archive{}, dir)
			if err != nil {
				t.Fatal(err)
			}
			create := &tasksapi.CreateTaskRequest{ContainerID: "c1", Checkpoint: &types.Descriptor{}}
			if _, err := s.Create(t.Context(), create); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(filepath.Join(m.from, "image")); err != nil {
				t.Error("before the start:", err)
			}
			if _, err := s.Create(t.Context(), create); !errdefs.IsAlreadyExists(err) {
				t.Errorf("second create: %v", err)
			}
			if err := tc.end(s, t.Context()); err != nil {
				t.Error(err)
			}
			if left, _ := os.ReadDir(dir); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestUnpackedFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "unpacked")
	if err := os.MkdirAll(filepath.Join(dir, "of an earlier core"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		m *manager
		a archive
	}{{&manager{}, archive{fail: true}}, {&manager{fail: "create"}, archive{}}} {
		s, err := New(tc.m, tc.a, dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.Create(t.Context(), &tasksapi.CreateTaskRequest{ContainerID: "c1", Checkpoint: &types.Descriptor{}}); err == nil {
			t.Error("create succeeds")
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("left: %v", left)
		}
	}
	s, err := New(&manager{}, archive{}, dir)
	if err != nil {
		t.Fatal(err)
	}
	if r, err := s.Checkpoint(t.Context(), &tasksapi.CheckpointTaskRequest{ContainerID: "c1"}); err != nil || len(r.Descriptors) != 1 {
		t.Errorf("checkpoint: %v, %v", r, err)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left by a checkpoint: %v", left)
	}
}
