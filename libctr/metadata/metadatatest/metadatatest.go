// Package metadatatest is what the core's records must do, whoever keeps them:
// on the database itself and through gRPC.
package metadatatest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/container"
	"gantry/libctr/core/image"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/namespace"

	"github.com/containerd/typeurl/v2"
)

// Stores are the stores under test, on one empty database.
type Stores struct {
	Containers container.Store
	Images     image.Store
	Leases     lease.Manager
	Namespaces namespace.Store
}

// Run runs the suite; open makes empty stores.
func Run(t *testing.T, open func(t *testing.T) Stores) { RunExcept(t, nil, open) }

// RunExcept is Run without the tests that are named, for the reason given.
func RunExcept(t *testing.T, except map[string]string, open func(t *testing.T) Stores) {
	for name, test := range map[string]func(subject){
		"containers":                containers,
		"containers: update":        updateContainers,
		"containers: invalid":       invalidContainers,
		"containers: many":          manyContainers,
		"images":                    images,
		"images: update":            updateImages,
		"images: invalid":           invalidImages,
		"leases":                    leases,
		"leases: resources":         leaseResources,
		"namespaces":                namespaces,
		"namespaces keep apart":     apart,
		"a namespace is needed":     needed,
		"filters":                   filters,
		"labels: empty is no label": emptyLabels,
	} {
		t.Run(name, func(t *testing.T) {
			if why := except[name]; why != "" {
				t.Skip(why)
			}
			test(subject{t, reqctx.WithNamespace(t.Context(), "testing"), open(t)})
		})
	}
}

type subject struct {
	*testing.T
	ctx context.Context
	Stores
}

func (s subject) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s subject) is(what string, err, class error) {
	s.Helper()
	if !errors.Is(err, class) {
		s.Errorf("%s: %v, want class %v", what, err, class)
	}
}

// Spec is any spec.
func Spec(text string) typeurl.Any {
	return &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec", Value: []byte(text)}
}

// Container returns a valid one.
func Container(id string) container.Container {
	return container.Container{
		ID:          id,
		Labels:      map[string]string{"com.example.role": "web", "n": "1"},
		Image:       "docker.io/library/busybox:latest",
		Runtime:     container.Runtime{Name: "io.containerd.gantry.v2", Options: Spec("options")},
		Spec:        Spec(`{"ociVersion":"1.0.2"}`),
		Snapshotter: "overlayfs",
		SnapshotKey: id,
		SandboxID:   "box",
		Extensions:  map[string]typeurl.Any{"ext.one": Spec("1")},
	}
}

func same(a, b typeurl.Any) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return a.GetTypeUrl() == b.GetTypeUrl() && string(a.GetValue()) == string(b.GetValue())
}

func equal(a, b container.Container) bool {
	return a.ID == b.ID && maps.Equal(a.Labels, b.Labels) && a.Image == b.Image &&
		a.Runtime.Name == b.Runtime.Name && same(a.Runtime.Options, b.Runtime.Options) && same(a.Spec, b.Spec) &&
		a.SnapshotKey == b.SnapshotKey && a.Snapshotter == b.Snapshotter && a.SandboxID == b.SandboxID &&
		maps.EqualFunc(a.Extensions, b.Extensions, same)
}

func containers(s subject) {
	want := Container("one")
	made, err := s.Containers.Create(s.ctx, want)
	s.must(err)
	if !equal(made, want) || made.CreatedAt.IsZero() || !made.UpdatedAt.Equal(made.CreatedAt) {
		s.Errorf("created %+v, want %+v", made, want)
	}
	_, err = s.Containers.Create(s.ctx, want)
	s.is("create twice", err, errdefs.ErrAlreadyExists)
	got, err := s.Containers.Get(s.ctx, "one")
	s.must(err)
	if !equal(got, made) || !got.CreatedAt.Equal(made.CreatedAt) {
		s.Errorf("got %+v, want %+v", got, made)
	}
	_, err = s.Containers.Get(s.ctx, "nope")
	s.is("get", err, errdefs.ErrNotFound)
	s.must(s.Containers.Delete(s.ctx, "one"))
	s.is("delete twice", s.Containers.Delete(s.ctx, "one"), errdefs.ErrNotFound)
	_, err = s.Containers.Get(s.ctx, "one")
	s.is("get after delete", err, errdefs.ErrNotFound)
}

func updateContainers(s subject) {
	was, err := s.Containers.Create(s.ctx, Container("one"))
	s.must(err)
	for _, step := range []struct {
		name  string
		new   container.Container
		paths []string
		edit  func(*container.Container)
		class error
	}{
		{"a label", container.Container{ID: "one", Image: "x", Labels: map[string]string{"n": "2"}}, []string{"labels.n"},
			func(c *container.Container) { c.Labels = map[string]string{"com.example.role": "web", "n": "2"} }, nil},
		{"a label with dots", container.Container{ID: "one", Labels: map[string]string{"com.example.role": "db"}}, []string{"labels.com.example.role"},
			func(c *container.Container) { c.Labels = map[string]string{"com.example.role": "db", "n": "2"} }, nil},
		{"remove a label", container.Container{ID: "one"}, []string{"labels.n"},
			func(c *container.Container) { c.Labels = map[string]string{"com.example.role": "db"} }, nil},
		{"image and spec", container.Container{ID: "one", Image: "i", Spec: Spec("2")}, []string{"image", "spec"},
			func(c *container.Container) { c.Image, c.Spec = "i", Spec("2") }, nil},
		{"an extension", container.Container{ID: "one", Extensions: map[string]typeurl.Any{"two": Spec("2")}}, []string{"extensions.two"},
			func(c *container.Container) {
				c.Extensions = map[string]typeurl.Any{"ext.one": Spec("1"), "two": Spec("2")}
			}, nil},
		{"snapshot key", container.Container{ID: "one", SnapshotKey: "k"}, []string{"snapshotkey"},
			func(c *container.Container) { c.SnapshotKey = "k" }, nil},
		{"what can't change", container.Container{ID: "one"}, []string{"runtime"}, nil, errdefs.ErrInvalidArgument},
		{"another snapshotter", container.Container{ID: "one", Snapshotter: "native", Runtime: was.Runtime}, nil, nil, errdefs.ErrInvalidArgument},
		{"nothing there", container.Container{ID: "nope"}, []string{"labels"}, nil, errdefs.ErrNotFound},
	} {
		got, err := s.Containers.Update(s.ctx, step.new, step.paths...)
		if step.class != nil {
			s.is(step.name, err, step.class)
			continue
		}
		if err != nil {
			s.Errorf("%s: %v", step.name, err)
			continue
		}
		step.edit(&was)
		if !equal(got, was) || !got.UpdatedAt.After(got.CreatedAt) {
			s.Errorf("%s: %+v, want %+v", step.name, got, was)
		}
	}
	all := Container("one")
	all.SandboxID, all.SnapshotKey = "not changed", "all"
	got, err := s.Containers.Update(s.ctx, all)
	s.must(err)
	all.SandboxID = "box"
	if !equal(got, all) {
		s.Errorf("all: %+v, want %+v", got, all)
	}
	again, err := s.Containers.Get(s.ctx, "one")
	s.must(err)
	if !equal(again, got) {
		s.Errorf("kept %+v, want %+v", again, got)
	}
}

func invalidContainers(s subject) {
	for name, edit := range map[string]func(*container.Container){
		"no id":           func(c *container.Container) { c.ID = "" },
		"id with a slash": func(c *container.Container) { c.ID = "a/b" },
		"id with dots":    func(c *container.Container) { c.ID = "a..b" },
		"long id":         func(c *container.Container) { c.ID = strings.Repeat("a", 77) },
		"no runtime":      func(c *container.Container) { c.Runtime.Name = "" },
		"no spec":         func(c *container.Container) { c.Spec, c.SandboxID = nil, "" },
		"no snapshotter":  func(c *container.Container) { c.Snapshotter = "" },
		"large label":     func(c *container.Container) { c.Labels["x"] = strings.Repeat("y", 4096) },
		"empty extension": func(c *container.Container) { c.Extensions[""] = Spec("x") },
	} {
		c := Container("one")
		edit(&c)
		_, err := s.Containers.Create(s.ctx, c)
		s.is(name, err, errdefs.ErrInvalidArgument)
	}
}

// manyContainers has more than one message can carry.
func manyContainers(s subject) {
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		c := Container(id)
		c.Spec = Spec(strings.Repeat(id, 4<<20))
		_, err := s.Containers.Create(s.ctx, c)
		s.must(err)
	}
	list, err := s.Containers.List(s.ctx)
	s.must(err)
	if len(list) != 5 || len(list[4].Spec.GetValue()) != 4<<20 {
		s.Errorf("listed %d", len(list))
	}
}

// Target returns a valid one.
func Target(text string) ocispec.Descriptor {
	return ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(text), Size: 10,
		Annotations: map[string]string{"a": "1"},
	}
}

func images(s subject) {
	want := image.Image{Name: "docker.io/library/busybox:latest", Labels: map[string]string{"l": "1"}, Target: Target("1")}
	made, err := s.Images.Create(s.ctx, want)
	s.must(err)
	check := func(what string, got image.Image) {
		s.Helper()
		if got.Name != want.Name || !maps.Equal(got.Labels, want.Labels) || got.Target.Digest != want.Target.Digest ||
			got.Target.Size != 10 || got.Target.MediaType != want.Target.MediaType ||
			!maps.Equal(got.Target.Annotations, want.Target.Annotations) || got.CreatedAt.IsZero() {
			s.Errorf("%s %+v, want %+v", what, got, want)
		}
	}
	check("created", made)
	_, err = s.Images.Create(s.ctx, want)
	s.is("create twice", err, errdefs.ErrAlreadyExists)
	got, err := s.Images.Get(s.ctx, want.Name)
	s.must(err)
	check("got", got)
	_, err = s.Images.Get(s.ctx, "nope")
	s.is("get", err, errdefs.ErrNotFound)
	other := Target("2")
	s.is("delete with another target", s.Images.Delete(s.ctx, want.Name, false, &other), errdefs.ErrNotFound)
	s.must(s.Images.Delete(s.ctx, want.Name, true, &want.Target))
	s.is("delete twice", s.Images.Delete(s.ctx, want.Name, false, nil), errdefs.ErrNotFound)
}

func updateImages(s subject) {
	i := image.Image{Name: "i", Labels: map[string]string{"l": "1", "m": "1"}, Target: Target("1")}
	made, err := s.Images.Create(s.ctx, i)
	s.must(err)
	got, err := s.Images.Update(s.ctx, image.Image{Name: "i", Labels: map[string]string{"l": "2"}, Target: Target("2")}, "labels.l")
	s.must(err)
	if got.Labels["l"] != "2" || got.Labels["m"] != "1" || got.Target.Digest != Target("1").Digest {
		s.Errorf("one label: %+v", got)
	}
	got, err = s.Images.Update(s.ctx, image.Image{Name: "i", Target: Target("3")}, "target")
	s.must(err)
	if got.Target.Digest != Target("3").Digest || len(got.Labels) != 2 || !got.CreatedAt.Equal(made.CreatedAt) {
		s.Errorf("target: %+v", got)
	}
	got, err = s.Images.Update(s.ctx, image.Image{Name: "i", Labels: map[string]string{"n": "9"}, Target: Target("4")})
	s.must(err)
	if got.Target.Digest != Target("4").Digest || !maps.Equal(got.Labels, map[string]string{"n": "9"}) {
		s.Errorf("all: %+v", got)
	}
	_, err = s.Images.Update(s.ctx, i, "name")
	s.is("update of the name", err, errdefs.ErrInvalidArgument)
	_, err = s.Images.Update(s.ctx, image.Image{Name: "nope", Target: Target("1")})
	s.is("update of nothing", err, errdefs.ErrNotFound)
}

func invalidImages(s subject) {
	for name, i := range map[string]image.Image{
		"no name":       {Target: Target("1")},
		"no digest":     {Name: "i", Target: ocispec.Descriptor{MediaType: "m", Size: 1}},
		"bad digest":    {Name: "i", Target: ocispec.Descriptor{MediaType: "m", Size: 1, Digest: "sha256:x"}},
		"no size":       {Name: "i", Target: ocispec.Descriptor{MediaType: "m", Digest: digest.FromString("")}},
		"no media type": {Name: "i", Target: ocispec.Descriptor{Size: 1, Digest: digest.FromString("")}},
	} {
		_, err := s.Images.Create(s.ctx, i)
		s.is(name, err, errdefs.ErrInvalidArgument)
	}
}

func leases(s subject) {
	l, err := s.Leases.Create(s.ctx, "one", map[string]string{"l": "1"})
	s.must(err)
	if l.ID != "one" || l.Labels["l"] != "1" || l.CreatedAt.IsZero() {
		s.Errorf("created %+v", l)
	}
	_, err = s.Leases.Create(s.ctx, "one", nil)
	s.is("create twice", err, errdefs.ErrAlreadyExists)
	random, err := s.Leases.Create(s.ctx, "", nil)
	s.must(err)
	if random.ID == "" {
		s.Error("no id was given")
	}
	list, err := s.Leases.List(s.ctx, "id==one")
	s.must(err)
	if len(list) != 1 || list[0].ID != "one" || !list[0].CreatedAt.Equal(l.CreatedAt) {
		s.Errorf("listed %+v", list)
	}
	s.must(s.Leases.Delete(s.ctx, random.ID, true))
	s.must(s.Leases.Delete(s.ctx, "one", false))
	s.is("delete twice", s.Leases.Delete(s.ctx, "one", false), errdefs.ErrNotFound)
}

func leaseResources(s subject) {
	_, err := s.Leases.Create(s.ctx, "one", nil)
	s.must(err)
	held := []lease.Resource{
		{Type: "content", ID: digest.FromString("x").String()},
		{Type: "ingests", ID: "ref"},
		{Type: "snapshots/overlayfs", ID: "key/with/slashes"},
	}
	for _, r := range held {
		s.must(s.Leases.AddResource(s.ctx, "one", r))
		s.must(s.Leases.AddResource(s.ctx, "one", r)) // again is no error
	}
	got, err := s.Leases.ListResources(s.ctx, "one")
	s.must(err)
	if !slices.Equal(got, held) {
		s.Errorf("resources %v, want %v", got, held)
	}
	s.must(s.Leases.DeleteResource(s.ctx, "one", held[1]))
	got, err = s.Leases.ListResources(s.ctx, "one")
	s.must(err)
	if !slices.Equal(got, []lease.Resource{held[0], held[2]}) {
		s.Errorf("after delete: %v", got)
	}
	s.is("a bad digest", s.Leases.AddResource(s.ctx, "one", lease.Resource{Type: "content", ID: "x"}), errdefs.ErrInvalidArgument)
	s.is("an unknown type", s.Leases.AddResource(s.ctx, "one", lease.Resource{Type: "task", ID: "x"}), errdefs.ErrNotImplemented)
	s.is("no lease", s.Leases.AddResource(s.ctx, "nope", held[0]), errdefs.ErrNotFound)
	_, err = s.Leases.ListResources(s.ctx, "nope")
	s.is("list of no lease", err, errdefs.ErrNotFound)
}

func namespaces(s subject) {
	s.must(s.Namespaces.Create(s.ctx, "one", map[string]string{"a": "1"}))
	s.is("create twice", s.Namespaces.Create(s.ctx, "one", nil), errdefs.ErrAlreadyExists)
	s.is("bad name", s.Namespaces.Create(s.ctx, "a/b", nil), errdefs.ErrInvalidArgument)
	s.must(s.Namespaces.SetLabel(s.ctx, "one", "b.c", "2"))
	s.must(s.Namespaces.SetLabel(s.ctx, "one", "a", ""))
	labels, err := s.Namespaces.Labels(s.ctx, "one")
	s.must(err)
	if !maps.Equal(labels, map[string]string{"b.c": "2"}) {
		s.Errorf("labels %v", labels)
	}
	labels, err = s.Namespaces.Labels(s.ctx, "nope") // which clients ask for before they make it
	if err != nil || len(labels) > 0 {
		s.Errorf("labels of nothing: %v, %v", labels, err)
	}
	s.must(s.Namespaces.SetLabels(s.ctx, "one", map[string]string{"d": "3", "e": ""}))
	if labels, err = s.Namespaces.Labels(s.ctx, "one"); err != nil || !maps.Equal(labels, map[string]string{"d": "3"}) {
		s.Errorf("replaced labels: %v, %v", labels, err)
	}

	_, err = s.Containers.Create(reqctx.WithNamespace(s.ctx, "two"), Container("c"))
	s.must(err)
	names, err := s.Namespaces.List(s.ctx)
	s.must(err)
	if !slices.Equal(names, []string{"one", "two"}) {
		s.Errorf("names %v", names)
	}
	s.is("delete of a full one", s.Namespaces.Delete(s.ctx, "two"), errdefs.ErrFailedPrecondition)
	s.must(s.Namespaces.Delete(s.ctx, "one"))
	s.is("delete twice", s.Namespaces.Delete(s.ctx, "one"), errdefs.ErrNotFound)
	s.must(s.Containers.Delete(reqctx.WithNamespace(s.ctx, "two"), "c"))
	s.must(s.Namespaces.Delete(s.ctx, "two"))
}

func apart(s subject) {
	other := reqctx.WithNamespace(s.ctx, "other")
	_, err := s.Containers.Create(s.ctx, Container("one"))
	s.must(err)
	_, err = s.Containers.Create(other, Container("one"))
	s.must(err)
	s.must(s.Containers.Delete(s.ctx, "one"))
	_, err = s.Containers.Get(other, "one")
	s.must(err)
}

func needed(s subject) {
	ctx := reqctx.WithNamespace(s.ctx, "")
	_, err := s.Containers.List(ctx)
	s.is("no namespace", err, errdefs.ErrFailedPrecondition)
	_, err = s.Images.List(reqctx.WithNamespace(s.ctx, "a b"))
	s.is("a bad namespace", err, errdefs.ErrInvalidArgument)
}

func filters(s subject) {
	for _, id := range []string{"one", "two"} {
		_, err := s.Containers.Create(s.ctx, Container(id))
		s.must(err)
		_, err = s.Images.Create(s.ctx, image.Image{Name: id, Target: Target(id)})
		s.must(err)
	}
	for filter, want := range map[string]int{
		"id==one": 1, `labels."com.example.role"==web`: 2, "image~=busybox": 2, "runtime.name==nope": 0, "id!=one": 1,
	} {
		list, err := s.Containers.List(s.ctx, filter)
		s.must(err)
		if len(list) != want {
			s.Errorf("containers %q: %d, want %d", filter, len(list), want)
		}
	}
	list, err := s.Images.List(s.ctx, "name==one", "target.digest=="+Target("two").Digest.String())
	s.must(err)
	if len(list) != 2 {
		s.Errorf("images: %d, want both", len(list))
	}
	_, err = s.Images.List(s.ctx, "name=one")
	s.is("a bad filter", err, errdefs.ErrInvalidArgument)
}

func emptyLabels(s subject) {
	i, err := s.Images.Create(s.ctx, image.Image{Name: "i", Labels: map[string]string{"a": "", "b": "1"}, Target: Target("1")})
	s.must(err)
	if !maps.Equal(i.Labels, map[string]string{"b": "1"}) {
		s.Errorf("labels %v", i.Labels)
	}
}
