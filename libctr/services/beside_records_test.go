package services_test

import (
	"strings"
	"testing"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	namespacesapi "github.com/containerd/containerd/api/services/namespaces/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// mask names fields of an update.
func mask(paths ...string) *fieldmaskpb.FieldMask { return &fieldmaskpb.FieldMask{Paths: paths} }

// raw is an Any of a type that nobody knows.
func raw(text string) *anypb.Any { return &anypb.Any{TypeUrl: "test/raw", Value: []byte(text)} }

// box is a container with what the checks ask for, changed by each fn.
func box(id string, fns ...func(*containersapi.Container)) *containersapi.Container {
	c := &containersapi.Container{ID: id, Runtime: &containersapi.Container_Runtime{Name: "rt"}, Spec: raw("spec")}
	for _, fn := range fns {
		fn(c)
	}
	return c
}

var long = strings.Repeat("x", 4096)

func TestBesideContainers(t *testing.T) {
	type c = containersapi.Container
	create := func(name string, one *c) step {
		return step{name: name, method: "containers/Create", req: []proto.Message{&containersapi.CreateContainerRequest{Container: one}}}
	}
	get := func(id string) step {
		return step{name: id, method: "containers/Get", req: one(&containersapi.GetContainerRequest{ID: id})}
	}
	update := func(name string, one *c, paths ...string) step {
		r := &containersapi.UpdateContainerRequest{Container: one}
		if paths != nil {
			r.UpdateMask = mask(paths...)
		}
		return step{name: name, method: "containers/Update", req: []proto.Message{r}}
	}
	list := func(filters ...string) step {
		return step{name: strings.Join(filters, " or "), method: "containers/List", req: one(&containersapi.ListContainersRequest{Filters: filters})}
	}
	stream := func(filters ...string) step {
		s := list(filters...)
		s.method = "containers/ListStream"
		return s
	}
	remove := func(id string) step {
		return step{name: id, method: "containers/Delete", req: one(&containersapi.DeleteContainerRequest{ID: id})}
	}
	in := func(ns string, s step) step { s.in = ns; return s }
	ours := func(s step, want, why string) step { s.ours, s.why = want, why; return s }
	var nothing []string
	script := []step{
		get("none"), remove("none"), list(nothing...), update("none", box("none"), "labels"),
		in("-", get("none")), in("-", list()), in("-", create("no namespace", box("a"))), in("-", remove("a")),
		in("a/b", get("none")), in("a/b", list()),
		create("empty id", box("")), create("bad id", box("a/b")), create("two dots", box("a..b")), create("long id", box(strings.Repeat("a", 77))),
		create("longest id", box(strings.Repeat("a", 76))), remove(strings.Repeat("a", 76)),
		create("no runtime", box("a", func(c *c) { c.Runtime = nil })),
		create("key without snapshotter", box("a", func(c *c) { c.SnapshotKey = "k" })),
		create("empty extension key", box("a", func(c *c) { c.Extensions = map[string]*anypb.Any{"": raw("x")} })),
		create("large label", box("a", func(c *c) { c.Labels = map[string]string{"k": long} })),
		create("large label key", box("a", func(c *c) { c.Labels = map[string]string{long: "v"} })),
		create("largest label", box("a", func(c *c) { c.Labels = map[string]string{"k": long[1:]} })), remove("a"),
		create("all", box("a", func(c *c) {
			c.Image, c.Snapshotter, c.SnapshotKey = "img", "overlayfs", "k"
			c.Labels = labels("l=1", "m.n/o=2", "empty=")
			c.CreatedAt = timestamppb.Now()
			c.Runtime.Options = raw("options")
		})),
		get("a"), create("again", box("a")), create("another", box("b")), get("b"),
		update("no id", box("")), update("nothing but id", &c{ID: "a"}),
		update("another snapshotter", box("a", func(c *c) { c.Snapshotter = "x" })),
		update("another runtime", box("a", func(c *c) { c.Runtime.Name = "x"; c.Snapshotter = "overlayfs" })),
		update("without mask", box("a", func(c *c) { c.Snapshotter = "overlayfs"; c.Image = "other"; c.Labels = labels("n=1") })), get("a"),
		update("unknown field", box("a"), "runtime"), update("star", box("a"), "*"), update("empty path", box("a"), ""),
		update("created", box("a"), "created_at"), update("snapshot_key", box("a", func(c *c) { c.SnapshotKey = "z" }), "snapshot_key"),
		update("snapshotkey", box("a", func(c *c) { c.SnapshotKey = "z" }), "snapshotkey"),
		update("one label", box("a", func(c *c) { c.Labels = labels("x.y=3", "z=4") }), "labels.x.y"),
		update("label gone", box("a", func(c *c) { c.Labels = labels("x.y=") }), "labels.x.y", "labels.absent"), get("a"),
		update("large label", box("a", func(c *c) { c.Labels = map[string]string{"k": long} }), "labels.k"),
		update("labels", box("a", func(c *c) { c.Labels = labels("a=1", "b=") }), "labels"),
		update("image and spec", box("a", func(c *c) { c.Image = "i2"; c.Spec = raw("spec2") }), "image", "spec"),
		create("extensions", box("x", func(c *c) { c.Extensions = map[string]*anypb.Any{"e": raw("1"), "f.g": raw("2")} })), get("x"),
		update("extension", box("x", func(c *c) { c.Extensions = map[string]*anypb.Any{"e.f": raw("9"), "g": raw("8")} }), "extensions.e.f"),
		update("extension replaced", box("x", func(c *c) { c.Extensions = map[string]*anypb.Any{"e.f": raw("7")} }), "extensions.e.f"), get("x"),
		update("extensions", box("x", func(c *c) { c.Extensions = map[string]*anypb.Any{"h": raw("6")} }), "extensions"),
		ours(get("x"), `GetContainerResponse container:{id:"x" runtime:{name:"rt"} spec:{type_url:"test/raw" value:"spec"} created_at:{seconds:1} updated_at:{seconds:1} extensions:{key:"h" value:{type_url:"test/raw" value:"6"}}}`,
			"containerd answers that, and keeps the old ones all the same"), remove("x"),
		update("one good one bad", box("a", func(c *c) { c.Image = "i3" }), "image", "nope"), get("a"),
		update("image away", &c{ID: "a"}, "image"), get("a"),
		create("for filters", box("c", func(c *c) { c.Image = "docker.io/x:1"; c.Labels = labels("tier=front end", "a.b=c", "q=a\"b") })),
	}
	for _, f := range filterTexts {
		script = append(script, list(f), stream(f))
	}
	script = append(script,
		list(`id==a`, `id==c`), list(`id==a`, `((`), list(`image`), list(`image!=x`), list(`runtime.name==rt`), list(`runtime==rt`), list(`runtime.name.x==rt`), list("runtime.options"),
		list("snapshotter==overlayfs"), list("labels.nope!=1"), list("nope!=1"), list(`nope~=x`), list(`nope~=.*`), list(`labels.nope~=^$`), list(`id~=(`),
		in("other", list()), in("other", get("a")), in("other", remove("a")),
		remove("a"), get("a"), remove("a"), remove(""), get(""), remove("b"), remove("c"),
		ours(in(lenient, create("no spec", box("nospec", func(c *c) { c.Spec = nil }))),
			"InvalidArgument: create container failed validation: container.Spec must be set: invalid argument", "containerd 2.x means to and does not look well"),
		in(lenient, create("has a spec", box("a"))),
		ours(in(lenient, update("spec away", &c{ID: "a"}, "spec")), "InvalidArgument: update failed validation: container.Spec must be set: invalid argument", "as above"),
	)
	beside(t, script)
}

// filterTexts are filters on an object with an id, good and bad.
var filterTexts = []string{
	"", " ", ",", "id", "id==a", " id == a ", "id!=a", "id~=^a$", `id=="a"`, `id~=/a/`, `id~=|a|`, `id==/a/`, `id==|a|`, "id==", "id==a,", ",id==a", "id==a,,id==a",
	"id=a", "id===a", "id<a", "==a", ".id", "id.", "id..x", "id==a b", "id ==a , labels", "id a", `id=="a`, `id=="\q"`, `id=="\x61"`, `id=="\u0061"`, `id=="\141"`, `id=="\777"`, `id=='a'`,
	`"id"==a`, `i"d"==a`, `labels."a.b"==c`, "labels.a.b==c", `labels.tier=="front end"`, "labels.tier==front end", `labels.q=="a\"b"`, `labels.q==a\"b`,
	`labels."tier"~=/front\s/`, `labels.tier~="front\\s"`, `labels.tier~=/front end\/?/`, "labels", "labels.", "labels.a", "id!=!a", "id==a==b", "id~=[", "id~~a", "id!a", "id=!a", "id==ä", "ä==id", "id==\x01", "1d==a",
	"id==a,id==b", "id==a,id~=a", "id==a.b", "labels.a-b==c", `labels."a-b"==c`, "id == \t a", "id\n==\na", `id=="a"b`, `id=="a","b"`, `"=="==a`, "id==\"\"", `id~=""`, "id,labels", "id.x", "id.x==a",
}

func TestBesideImages(t *testing.T) {
	type i = imagesapi.Image
	target := func(fns ...func(*types.Descriptor)) *types.Descriptor {
		d := &types.Descriptor{MediaType: "m", Digest: "sha256:" + strings.Repeat("a", 64), Size: 3}
		for _, fn := range fns {
			fn(d)
		}
		return d
	}
	create := func(name string, one *i) step {
		return step{name: name, method: "images/Create", req: []proto.Message{&imagesapi.CreateImageRequest{Image: one}}}
	}
	get := func(name string) step {
		return step{name: name, method: "images/Get", req: one(&imagesapi.GetImageRequest{Name: name})}
	}
	update := func(name string, one *i, paths ...string) step {
		if one.Target == nil {
			one.Target = &types.Descriptor{} // containerd 2.x ends in a panic without one
		}
		r := &imagesapi.UpdateImageRequest{Image: one}
		if paths != nil {
			r.UpdateMask = mask(paths...)
		}
		return step{name: name, method: "images/Update", req: []proto.Message{r}}
	}
	list := func(filters ...string) step {
		return step{name: strings.Join(filters, " or "), method: "images/List", req: one(&imagesapi.ListImagesRequest{Filters: filters})}
	}
	remove := func(r *imagesapi.DeleteImageRequest) step {
		return step{name: r.GetName(), method: "images/Delete", req: one(r)}
	}
	in := func(ns string, s step) step { s.in = ns; return s }
	under := func(lease string, s step) step { s.lease = lease; return s }
	wanted := func(s step, want string) step { s.want = want; return s }
	beside(t, []step{
		get("none"), list(), remove(&imagesapi.DeleteImageRequest{Name: "none"}), update("none", &i{Name: "none", Target: target()}), update("none", &i{Name: "none", Target: target()}, "labels"),
		in("-", get("none")), in("-", list()), in("-", create("x", &i{Name: "x", Target: target()})),
		create("no name", &i{Target: target()}), create("no digest", &i{Name: "x", Target: target(func(d *types.Descriptor) { d.Digest = "" })}),
		create("bad digest", &i{Name: "x", Target: target(func(d *types.Descriptor) { d.Digest = "sha256:1" })}),
		create("odd algorithm", &i{Name: "x", Target: target(func(d *types.Descriptor) { d.Digest = "md5:" + strings.Repeat("a", 32) })}),
		create("no size", &i{Name: "x", Target: target(func(d *types.Descriptor) { d.Size = 0 })}),
		create("negative size", &i{Name: "x", Target: target(func(d *types.Descriptor) { d.Size = -1 })}),
		create("no media type", &i{Name: "x", Target: target(func(d *types.Descriptor) { d.MediaType = "" })}),
		create("large label", &i{Name: "x", Target: target(), Labels: map[string]string{"k": long}}),
		create("all", &i{Name: "docker.io/library/x:1", Target: target(func(d *types.Descriptor) { d.Annotations = labels("a=1", "b.c=2") }), Labels: labels("l=1", "e=")}),
		get("docker.io/library/x:1"), create("again", &i{Name: "docker.io/library/x:1", Target: target()}),
		create("odd name", &i{Name: "a b\x01/ü", Target: target()}), get("a b\x01/ü"),
		update("no name", &i{Target: target()}), update("no name", &i{}, "labels"),
		update("no mask, no target", &i{Name: "docker.io/library/x:1"}),
		update("no mask", &i{Name: "docker.io/library/x:1", Target: target(func(d *types.Descriptor) { d.MediaType = "m2" }), Labels: labels("n=1", "e=")}), get("docker.io/library/x:1"),
		update("label", &i{Name: "docker.io/library/x:1", Labels: labels("x.y=1", "z=2")}, "labels.x.y"),
		update("label away", &i{Name: "docker.io/library/x:1"}, "labels.x.y", "labels.q"), get("docker.io/library/x:1"),
		update("annotation", &i{Name: "docker.io/library/x:1", Target: &types.Descriptor{Annotations: labels("p=1", "q=2")}}, "annotations.p"),
		update("annotations", &i{Name: "docker.io/library/x:1", Target: &types.Descriptor{Annotations: labels("r=1", "s=")}}, "annotations"), get("docker.io/library/x:1"),
		update("target", &i{Name: "docker.io/library/x:1", Target: target()}, "target"), get("docker.io/library/x:1"),
		update("target digest", &i{Name: "docker.io/library/x:1", Target: target()}, "target.digest"),
		update("name", &i{Name: "docker.io/library/x:1", Target: target()}, "name"),
		update("large", &i{Name: "docker.io/library/x:1", Labels: map[string]string{"k": long}}, "labels"),
		update("annotation, no target", &i{Name: "docker.io/library/x:1"}, "annotations.p"),
		list(), list("name==docker.io/library/x:1"), list("name~=library"), list("target"), list("target.digest~=aaa"), list("target.mediatype==m"), list("target.size==3"),
		list("labels.n"), list("labels.n==1"), list("annotations.r==1"), list("annotations"), list("name"), list("id==x"), list("(("), list("name==a", "(("),
		under("nolease", create("lease that is not there", &i{Name: "y", Target: target()})),
		create("to be removed", &i{Name: "x", Target: target()}), wanted(remove(&imagesapi.DeleteImageRequest{Name: "x", Target: target(func(d *types.Descriptor) { d.Digest = "sha256:" + strings.Repeat("b", 64) })}),
			`NotFound: image "x" has target sha256:`+strings.Repeat("a", 64)+`, not sha256:`+strings.Repeat("b", 64)+": not found"),
		wanted(remove(&imagesapi.DeleteImageRequest{Name: "x"}), "Empty"),
		remove(&imagesapi.DeleteImageRequest{Name: "docker.io/library/x:1", Target: target()}), get("docker.io/library/x:1"),
		remove(&imagesapi.DeleteImageRequest{Name: "a b\x01/ü", Target: &types.Descriptor{}}), remove(&imagesapi.DeleteImageRequest{}),
		remove(&imagesapi.DeleteImageRequest{Name: "y", Sync: true}),
	})
}

func TestBesideNamespaces(t *testing.T) {
	type n = namespacesapi.Namespace
	create := func(one *n) step {
		return step{name: one.GetName(), method: "namespaces/Create", req: []proto.Message{&namespacesapi.CreateNamespaceRequest{Namespace: one}}}
	}
	get := func(name string) step {
		return step{name: name, method: "namespaces/Get", req: one(&namespacesapi.GetNamespaceRequest{Name: name})}
	}
	update := func(name string, one *n, paths ...string) step {
		r := &namespacesapi.UpdateNamespaceRequest{Namespace: one}
		if paths != nil {
			r.UpdateMask = mask(paths...)
		}
		return step{name: name, method: "namespaces/Update", req: []proto.Message{r}}
	}
	list := step{method: "namespaces/List", req: one(&namespacesapi.ListNamespacesRequest{Filter: "name==nope"})}
	remove := func(name string) step {
		return step{name: name, method: "namespaces/Delete", req: one(&namespacesapi.DeleteNamespaceRequest{Name: name})}
	}
	filled := func(name string) step {
		return step{name: "in " + name, in: name, method: "containers/Create", req: one(&containersapi.CreateContainerRequest{Container: box("c")})}
	}
	image := step{name: "image", in: "full", method: "images/Create", req: one(&imagesapi.CreateImageRequest{Image: &imagesapi.Image{
		Name: "i", Target: &types.Descriptor{MediaType: "m", Digest: "sha256:" + strings.Repeat("a", 64), Size: 3}}})}
	lease := step{name: "lease", in: "leased", method: "leases/Create", req: one(&leasesapi.CreateRequest{ID: "l"})}
	ours := func(s step, want, why string) step { s.ours, s.why = want, why; return s }
	const uncoded = "the error of containerd's database has no code"
	beside(t, []step{
		list, get("none"), get(""), remove("none"), remove(""), remove("a/b"),
		create(&n{Name: ""}), create(&n{Name: "a/b"}), create(&n{Name: strings.Repeat("a", 77)}), create(&n{Name: "a", Labels: map[string]string{"k": long}}),
		create(&n{Name: "a", Labels: labels("k=v", "e=")}), get("a"), create(&n{Name: "a"}), list,
		update("none", &n{Name: "none", Labels: labels("x=1")}), get("none"), ours(update("no name", &n{Labels: labels("x=1")}), "InvalidArgument: identifier must not be empty: invalid argument", uncoded),
		update("one label", &n{Name: "a", Labels: labels("x=1", "y=2")}, "labels.x"), get("a"),
		update("label away", &n{Name: "a"}, "labels.x"), get("a"), update("labels", &n{Name: "a", Labels: labels("p=1")}, "labels"), get("a"),
		update("name", &n{Name: "a"}, "name"), update("no mask", &n{Name: "a", Labels: labels("q=1", "r=")}), get("a"),
		ours(update("large", &n{Name: "a", Labels: map[string]string{"k": long}}),
			"InvalidArgument: namespace.Labels: label key and value length (4097 bytes) greater than maximum size (4096 bytes), key: k: invalid argument", uncoded),
		ours(update("empty key", &n{Name: "a", Labels: labels("=1")}), "InvalidArgument: namespace.Labels: key must not be empty: invalid argument", uncoded), get("a"),
		filled("full"), image, remove("full"), list, get("full"), lease, remove("leased"),
		remove("a"), remove("a"), get("a"), list,
	})
}

func TestBesideLeases(t *testing.T) {
	create := func(id string, kv ...string) step {
		return step{name: id, method: "leases/Create", req: one(&leasesapi.CreateRequest{ID: id, Labels: labels(kv...)})}
	}
	list := func(filters ...string) step {
		return step{name: strings.Join(filters, " or "), method: "leases/List", req: one(&leasesapi.ListRequest{Filters: filters})}
	}
	remove := func(id string, sync bool) step {
		return step{name: id, method: "leases/Delete", req: one(&leasesapi.DeleteRequest{ID: id, Sync: sync})}
	}
	add := func(id, typ, res string) step {
		return step{name: id + " " + typ + " " + res, method: "leases/AddResource", req: one(&leasesapi.AddResourceRequest{ID: id, Resource: &leasesapi.Resource{ID: res, Type: typ}})}
	}
	drop := func(id, typ, res string) step {
		return step{name: id + " " + typ + " " + res, method: "leases/DeleteResource", req: one(&leasesapi.DeleteResourceRequest{ID: id, Resource: &leasesapi.Resource{ID: res, Type: typ}})}
	}
	resources := func(id string) step {
		return step{name: id, method: "leases/ListResources", req: one(&leasesapi.ListResourcesRequest{ID: id})}
	}
	in := func(ns string, s step) step { s.in = ns; return s }
	ours := func(s step, want, why string) step { s.ours, s.why = want, why; return s }
	digest := "sha256:" + strings.Repeat("c", 64)
	beside(t, []step{
		list(), remove("none", false), resources("none"), add("none", "content", digest), drop("none", "content", digest),
		in("-", list()), in("-", create("x")), in("-", remove("x", false)),
		create("l", "k=v", "e="), create("l"), create("a b/ü\x01"), list(), list("id==l"), list("labels.k==v"), list("labels.k"), list("id~=ü"), list("nope"), list("(("),
		add("l", "content", digest), add("l", "content", digest), add("l", "content", "nope"), add("l", "content", ""), add("l", "content/x", digest),
		add("l", "snapshots/overlayfs", "s"), add("l", "snapshots", "s"), ours(add("l", "snapshots/", "s"), `InvalidArgument: snapshotter "" must have 1 to 2048 bytes and no null byte: invalid argument`, "the error of containerd's database has no code"), add("l", "snapshots/a/b", "s"), ours(add("l", "snapshots/overlayfs", ""), `InvalidArgument: resource "" must have 1 to 2048 bytes and no null byte: invalid argument`, "the same"),
		add("l", "ingests", "r"), add("l", "ingests", "r/s"), add("l", "ingest", "r"), add("l", "ingests/x", "r"), add("l", "containers", "c"), add("l", "", "c"), add("l", "content", "sha256:xyz"),
		resources("l"), drop("l", "content", digest), drop("l", "content", digest), drop("l", "snapshots/overlayfs", "nope"), drop("l", "nope", "x"), drop("l", "snapshots/other", "x"), resources("l"), resources(""),
		remove("l", true), remove("l", false), remove("", false), resources("l"),
		ours(create("big", "k="+long), "InvalidArgument: label key and value length (4097 bytes) greater than maximum size (4096 bytes), key: k: invalid argument", "containerd does not look"),
	})
}
