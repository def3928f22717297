package image_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/filters"
	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/opencontainers/go-digest"

	"gantry/api/errdefs"
	"gantry/daemon/image"
	"gantry/internal/testutil/coretest"
)

const containerID = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// small makes an image with one tiny layer under the names given and returns its id.
func small(t testing.TB, f *fixture, content string, names ...string) digest.Digest {
	t.Helper()
	load(t, f, smallArchive(t, content, names...))
	img, err := f.Resolve(t.Context(), names[0], nil)
	check(t, err)
	f.events.take()
	return img.ID
}

func smallArchive(t testing.TB, content string, names ...string) []byte {
	t.Helper()
	l := string(build(t, file("hello", content)))
	config := `{"os":"linux","architecture":"amd64","created":"2024-01-02T03:04:05Z","config":{"Labels":{"l":"` + content + `"}},"rootfs":{"type":"layers","diff_ids":["` + digest.FromString(l).String() + `"]}}`
	tags := `"` + strings.Join(names, `","`) + `"`
	return build(t, file("l.tar", l), file("c.json", config), file("manifest.json", `[{"Config":"c.json","RepoTags":[`+tags+`],"Layers":["l.tar"]}]`))
}

// answer is a removal's answer, one line per record.
func answer(rs []imagetypes.DeleteResponse) []string {
	out := []string{}
	for _, r := range rs {
		if r.Untagged != "" {
			out = append(out, "untagged "+r.Untagged)
		} else {
			out = append(out, "deleted "+r.Deleted)
		}
	}
	return out
}

func TestRemove(t *testing.T) {
	f := newFixture(t, coretest.Start(t))
	var users []image.User
	f.SetUsers(func(id digest.Digest) (out []image.User) {
		for _, u := range users {
			if id == "" || u.ImageID == id {
				out = append(out, u)
			}
		}
		return out
	})
	for _, c := range []struct {
		why   string
		names []string
		ref   string // ID and SHORT stand for the image's
		force bool
		user  string // running, stopped
		want  []string
		err   string
		left  int // records
	}{
		{why: "last name", names: []string{"a:1"}, ref: "a:1", want: []string{"untagged a:1", "deleted ID"}},
		{why: "one of two names", names: []string{"a:1", "a:2"}, ref: "a:2", want: []string{"untagged a:2"}, left: 1},
		{why: "other repository", names: []string{"a:1", "b:1"}, ref: "b:1", want: []string{"untagged b:1"}, left: 1},
		{why: "id of one name", names: []string{"a:1"}, ref: "SHORT", want: []string{"untagged a:1", "deleted ID"}},
		{why: "id of two names in one repository", names: []string{"a:1", "a:2"}, ref: "ID", left: 2,
			err: "conflict: unable to delete SHORT (must be forced) - image is referenced in multiple repositories"},
		{why: "id of two repositories", names: []string{"a:1", "b:1"}, ref: "SHORT", left: 2,
			err: "conflict: unable to delete SHORT (must be forced) - image is referenced in multiple repositories"},
		{why: "id of two repositories, forced", names: []string{"a:1", "b:1"}, ref: "SHORT", force: true, want: []string{"untagged a:1", "untagged b:1", "deleted ID"}},
		{why: "by digest", names: []string{"a:1"}, ref: "a@ID", want: []string{"untagged a:1", "deleted ID"}},
		{why: "digest of another repository", names: []string{"a:1"}, ref: "b@ID", err: "No such image: b@ID", left: 1},
		{why: "name of a running container", names: []string{"a:1"}, ref: "a:1", user: "running", left: 1,
			err: "conflict: unable to delete a:1 (must be forced) - container 0123456789ab is using its referenced image SHORT"},
		{why: "name of a stopped container", names: []string{"a:1"}, ref: "a:1", user: "stopped", left: 1,
			err: "conflict: unable to delete a:1 (must be forced) - container 0123456789ab is using its referenced image SHORT"},
		{why: "name of a container, forced", names: []string{"a:1"}, ref: "a:1", user: "running", force: true, want: []string{"untagged a:1"}, left: 1},
		{why: "second name of a container's image", names: []string{"a:1", "a:2"}, ref: "a:1", user: "running", want: []string{"untagged a:1"}, left: 1},
		{why: "id with a stopped container", names: []string{"a:1"}, ref: "SHORT", user: "stopped", left: 1,
			err: "conflict: unable to delete SHORT (must be forced) - image is being used by stopped container 0123456789ab"},
		{why: "id with a stopped container, forced", names: []string{"a:1"}, ref: "SHORT", user: "stopped", force: true, want: []string{"untagged a:1", "deleted ID"}},
		{why: "id with a running container, forced", names: []string{"a:1"}, ref: "SHORT", user: "running", force: true, left: 1,
			err: "conflict: unable to delete SHORT (cannot be forced) - image is being used by running container 0123456789ab"},
		{why: "no such name", names: []string{"a:1"}, ref: "nope", err: "No such image: nope:latest", left: 1},
		{why: "no reference", names: []string{"a:1"}, ref: "not a name", err: "invalid reference format", left: 1},
	} {
		t.Run(c.why, func(t *testing.T) {
			users = nil
			id := small(t, f, "x", c.names...)
			if c.user != "" {
				users = []image.User{{ContainerID: containerID, Running: c.user == "running", ImageID: id, Ref: c.names[0]}}
			}
			expand := strings.NewReplacer("SHORT", id.Encoded()[:12], "ID", id.String()).Replace
			got, err := f.Remove(t.Context(), expand(c.ref), imagetypes.RemoveOptions{Force: c.force, PruneChildren: true})
			if c.err != "" {
				if err == nil || err.Error() != expand(c.err) {
					t.Errorf("error %v, want %s", err, expand(c.err))
				}
				if strings.HasPrefix(c.err, "conflict") && !errdefs.IsConflict(err) {
					t.Errorf("class %v", errdefs.Class(err))
				}
			} else {
				check(t, err)
				want := []string{}
				for _, w := range c.want {
					want = append(want, expand(w))
				}
				if !slices.Equal(answer(got), want) {
					t.Errorf("answered %q, want %q", answer(got), want)
				}
				wantEvents(t, f, id, want)
			}
			recs, err := f.core.Images().List(t.Context())
			check(t, err)
			if len(recs) != c.left {
				t.Errorf("%d records left: %v", len(recs), recs)
			}
			users = nil
			if len(recs) > 0 {
				_, err = f.Remove(t.Context(), id.String(), imagetypes.RemoveOptions{Force: true})
				check(t, err)
			}
		})
	}
}

// wantEvents: one event for each record of an answer.
func wantEvents(t *testing.T, f *fixture, id digest.Digest, answers []string) {
	t.Helper()
	var want []string
	for _, a := range answers {
		if name, ok := strings.CutPrefix(a, "untagged "); ok {
			want = append(want, "image untag "+id.String()+" "+name)
		} else {
			want = append(want, "image delete "+id.String()+" "+id.String())
		}
	}
	if got := f.events.take(); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
}

func TestTag(t *testing.T) {
	f := newFixture(t, coretest.Start(t))
	first := small(t, f, "1", "a:1")
	second := small(t, f, "2", "b:1")
	check(t, f.Tag(t.Context(), "a:1", "registry.example:5000/x/y", "v1"))
	check(t, f.Tag(t.Context(), first.Encoded()[:12], "c", ""))
	for _, name := range []string{"registry.example:5000/x/y:v1", "c:latest"} {
		if img, err := f.Resolve(t.Context(), name, nil); err != nil || img.ID != first {
			t.Errorf("%s: %v, %v", name, img, err)
		}
	}
	want := []string{"image tag " + first.String() + " registry.example:5000/x/y:v1", "image tag " + first.String() + " c:latest"}
	if got := f.events.take(); !slices.Equal(got, want) {
		t.Errorf("events %q", got)
	}

	// The name moves; what had it stays without a name, until it gets one again.
	check(t, f.Tag(t.Context(), "a:1", "b", "1"))
	dangling, err := f.List(t.Context(), imagetypes.ListOptions{Filters: filters.NewArgs(filters.Arg("dangling", "true"))})
	check(t, err)
	if len(dangling) != 1 || dangling[0].ID != second.String() || len(dangling[0].RepoTags) != 0 {
		t.Errorf("dangling %+v", dangling)
	}
	check(t, f.Tag(t.Context(), second.String(), "d", "1"))
	if all, err := f.core.Images().List(t.Context(), "name~=dangling"); err != nil || len(all) != 0 {
		t.Errorf("dangling records %v, %v", all, err)
	}

	for _, c := range []struct {
		ref, repo, tag, text string
		class                func(error) bool
	}{
		{"nope", "x", "", "No such image: nope:latest", errdefs.IsNotFound},
		{"a:1", "UPPER", "", "invalid reference format: repository name (library/UPPER) must be lowercase", errdefs.IsInvalidArgument},
		{"a:1", "x", "bad tag", "invalid tag format", errdefs.IsInvalidArgument},
		{"a:1", "x@" + first.String(), "", "refusing to create a tag with a digest reference", errdefs.IsInvalidArgument},
	} {
		if err := f.Tag(t.Context(), c.ref, c.repo, c.tag); !c.class(err) || err.Error() != c.text {
			t.Errorf("tag %s %s:%s: %v", c.ref, c.repo, c.tag, err)
		}
	}
}

func TestAmbiguousID(t *testing.T) {
	f := newFixture(t, coretest.Start(t))
	byPrefix := map[string]string{}
	for i := range 2000 { // until two ids begin with the same four digits
		name := "n" + strings.Repeat("x", i%7) + ":v" + string(rune('a'+i%26)) + digest.FromString(string(rune(i))).Encoded()[:8]
		id := digest.FromString(name)
		if other := byPrefix[id.Encoded()[:4]]; other != "" {
			ambiguous(t, f, id, digest.FromString(other))
			return
		}
		byPrefix[id.Encoded()[:4]] = name
	}
	t.Fatal("no two ids alike")
}

func ambiguous(t *testing.T, f *fixture, a, b digest.Digest) {
	t.Helper()
	for _, d := range []digest.Digest{a, b} {
		_, err := f.core.Images().Create(t.Context(), record(d))
		check(t, err)
	}
	_, err := f.Resolve(t.Context(), a.Encoded()[:4], nil)
	if !errdefs.IsNotFound(err) || err.Error() != "ambiguous reference" {
		t.Errorf("resolve: %v", err)
	}
	_, err = f.Remove(t.Context(), a.Encoded()[:4], imagetypes.RemoveOptions{})
	if !errdefs.IsNotFound(err) || err.Error() != "ambiguous reference" {
		t.Errorf("remove: %v", err)
	}
}

func TestPrune(t *testing.T) {
	f := newFixture(t, coretest.Start(t))
	lost := small(t, f, "lost", "a:1")
	kept := small(t, f, "kept", "a:1") // takes the name
	byID := small(t, f, "by id", "c:1")
	loose := small(t, f, "loose", "d:1")
	f.SetUsers(func(digest.Digest) []image.User {
		return []image.User{{ContainerID: containerID, ImageID: kept, Ref: "a:1"}, {ContainerID: containerID, ImageID: byID, Ref: byID.Encoded()[:12]}}
	})
	if got := f.events.take(); len(got) != 0 {
		t.Fatalf("events %q", got)
	}
	r, err := f.Prune(t.Context(), filters.NewArgs())
	check(t, err)
	if !slices.Equal(answer(r.ImagesDeleted), []string{"untagged " + lost.String(), "deleted " + lost.String()}) || r.SpaceReclaimed == 0 {
		t.Errorf("prune: %q, %d bytes", answer(r.ImagesDeleted), r.SpaceReclaimed)
	}
	if got := f.events.take(); len(got) != 3 || !strings.HasPrefix(got[2], "image prune") {
		t.Errorf("events %q", got)
	}
	r, err = f.Prune(t.Context(), filters.NewArgs(filters.Arg("dangling", "false"), filters.Arg("label", "l=nope")))
	check(t, err)
	if len(r.ImagesDeleted) != 0 {
		t.Errorf("prune by label: %q", answer(r.ImagesDeleted))
	}
	r, err = f.Prune(t.Context(), filters.NewArgs(filters.Arg("dangling", "false")))
	check(t, err)
	if !slices.Equal(answer(r.ImagesDeleted), []string{"untagged d:1", "deleted " + loose.String()}) {
		t.Errorf("prune all: %q", answer(r.ImagesDeleted))
	}
	if _, err := f.Prune(t.Context(), filters.NewArgs(filters.Arg("before", "x"))); !errdefs.IsInvalidArgument(err) {
		t.Errorf("filter: %v", err)
	}
	size, err := f.LayersSize(t.Context())
	if err != nil || size == 0 {
		t.Errorf("layers: %d, %v", size, err)
	}
}
