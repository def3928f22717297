package image_test

import (
	"slices"
	"testing"

	"github.com/docker/docker/api/types/filters"
	imagetypes "github.com/docker/docker/api/types/image"

	"gantry/api/errdefs"
	apiimage "gantry/api/image"
	"gantry/daemon/image"
	"gantry/daemon/rootfs"
	"gantry/internal/testutil/busybox"
)

func TestLoadResolvePrepareRemove(t *testing.T) {
	cores(t, func(t *testing.T, f *fixture) {
		ctx := t.Context()
		tar := busybox.Archive(t, busybox.Config{User: "tester", Labels: map[string]string{"a": "b"}}, "busybox:latest", "other/name:v1")
		if got, want := load(t, f, tar), "Loaded image: busybox:latest\nLoaded image: other/name:v1\n"; got != want {
			t.Errorf("load printed %q, want %q", got, want)
		}
		img, err := f.Resolve(ctx, "busybox", nil)
		check(t, err)
		if img.Name != "docker.io/library/busybox:latest" || img.Config.Config.User != "tester" || img.ChainID == "" {
			t.Errorf("resolved %+v", img)
		}
		for _, ref := range []string{"busybox:latest", "docker.io/library/busybox", "other/name:v1", img.ID.String(), img.ID.Encoded(),
			img.ID.Encoded()[:12], img.ID.String()[:12], "busybox@" + img.ID.String()} {
			if got, err := f.Resolve(ctx, ref, nil); err != nil || got.ID != img.ID {
				t.Errorf("resolve %s: %v, %v", ref, got, err)
			}
		}
		prepared(t, f, img)
		inspected(t, f, img)
		listed(t, f, img)

		gone, err := f.Remove(ctx, "other/name:v1", imagetypes.RemoveOptions{PruneChildren: true})
		check(t, err)
		if len(gone) != 1 || gone[0].Untagged != "other/name:v1" {
			t.Errorf("untagging answered %+v", gone)
		}
		gone, err = f.Remove(ctx, "busybox", imagetypes.RemoveOptions{PruneChildren: true})
		check(t, err)
		if len(gone) != 2 || gone[0].Untagged != "busybox:latest" || gone[1].Deleted != img.ID.String() {
			t.Errorf("removing answered %+v", gone)
		}
		if _, err := f.core.Content().Info(ctx, img.ID); !errdefs.IsNotFound(err) {
			t.Errorf("manifest after removal: %v", err)
		}
	})
}

func prepared(t *testing.T, f *fixture, img *image.Image) {
	t.Helper()
	ctx := t.Context()
	check(t, f.Prepare(ctx, img, "c1", nil))
	if err := f.Prepare(ctx, img, "c1", nil); !errdefs.IsAlreadyExists(err) {
		t.Errorf("second prepare: %v", err)
	}
	mounts, err := f.Mounts(ctx, "c1")
	check(t, err)
	root, err := rootfs.Open(mounts)
	check(t, err)
	u, home, err := root.LookupUser("tester", []string{"staff"})
	check(t, err)
	check(t, root.Close())
	if u.UID != 1000 || home != "/home/tester" || len(u.AdditionalGids) != 3 {
		t.Errorf("user %+v with home %q", u, home)
	}
	if _, err := f.Usage(ctx, "c1"); err != nil {
		t.Error(err)
	}
	check(t, f.RemoveSnapshot(ctx, "c1"))
	check(t, f.RemoveSnapshot(ctx, "c1"))
}

func inspected(t *testing.T, f *fixture, img *image.Image) {
	t.Helper()
	got, err := f.Inspect(t.Context(), "busybox", apiimage.InspectOptions{Manifests: true})
	check(t, err)
	if got.ID != img.ID.String() || got.Created != "2024-01-02T03:04:05Z" || got.Os != "linux" || len(got.RootFS.Layers) != 1 {
		t.Errorf("inspect: %+v", got)
	}
	if want := []string{"busybox:latest", "other/name:v1"}; !slices.Equal(got.RepoTags, want) {
		t.Errorf("RepoTags %v", got.RepoTags)
	}
	if want := []string{"busybox@" + img.ID.String(), "other/name@" + img.ID.String()}; !slices.Equal(got.RepoDigests, want) {
		t.Errorf("RepoDigests %v", got.RepoDigests)
	}
	if got.Size < 1<<20 || got.GraphDriver.Name != "overlayfs" || got.Metadata.LastTagTime.IsZero() {
		t.Errorf("size %d, driver %q, tagged %s", got.Size, got.GraphDriver.Name, got.Metadata.LastTagTime)
	}
	if len(got.Manifests) != 1 || !got.Manifests[0].Available || got.Manifests[0].ImageData.Size.Unpacked == 0 {
		t.Errorf("manifests %+v", got.Manifests)
	}
	h, err := f.History(t.Context(), "busybox", nil)
	check(t, err)
	if len(h) != 1 || h[0].ID != img.ID.String() || h[0].CreatedBy != "busybox" || h[0].Size == 0 || len(h[0].Tags) != 2 {
		t.Errorf("history %+v", h[0])
	}
}

func listed(t *testing.T, f *fixture, img *image.Image) {
	t.Helper()
	all, err := f.List(t.Context(), imagetypes.ListOptions{SharedSize: true})
	check(t, err)
	if len(all) != 1 {
		t.Fatalf("list has %d images", len(all))
	}
	got := all[0]
	if got.ID != img.ID.String() || len(got.RepoTags) != 2 || got.Labels["a"] != "b" || got.SharedSize != 0 || got.Containers != 0 {
		t.Errorf("list: %+v", got)
	}
	if got.Size < 2<<20 { // packed and unpacked
		t.Errorf("size %d", got.Size)
	}
	for _, c := range []struct {
		why, key, value string
		want            int
	}{
		{"label there", "label", "a", 1},
		{"label with value", "label", "a=b", 1},
		{"label with another value", "label", "a=c", 0},
		{"no label", "label!", "a", 0},
		{"reference", "reference", "busy*", 1},
		{"reference of another", "reference", "nope", 0},
		{"dangling", "dangling", "true", 0},
		{"not dangling", "dangling", "false", 1},
		{"before itself", "before", "busybox", 0},
		{"until long ago", "until", "24h", 0},
		{"until now", "until", "2100-01-01T00:00:00Z", 1},
	} {
		got, err := f.List(t.Context(), imagetypes.ListOptions{Filters: filters.NewArgs(filters.Arg(c.key, c.value))})
		if err != nil || len(got) != c.want {
			t.Errorf("%s: %d images, %v", c.why, len(got), err)
		}
	}
	_, err = f.List(t.Context(), imagetypes.ListOptions{Filters: filters.NewArgs(filters.Arg("nope", "x"))})
	if !errdefs.IsInvalidArgument(err) || err.Error() != "invalid filter 'nope'" {
		t.Errorf("unknown filter: %v", err)
	}
}
