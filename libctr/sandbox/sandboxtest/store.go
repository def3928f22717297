// Package sandboxtest is what stores and controllers of sandboxes must do, whoever they
// are: on the database itself, through gRPC, and with a shim.
package sandboxtest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/core/sandbox"
)

// Store runs the suite of stores; open makes an empty one.
func Store(t *testing.T, open func(t *testing.T) sandbox.Store) {
	for name, test := range map[string]func(records){
		"kept whole":            keptWhole,
		"update":                update,
		"update of extensions":  updateExtensions,
		"refused":               refused,
		"not there":             notThere,
		"filters":               filters,
		"namespaces kept apart": namespaces,
	} {
		t.Run(name, func(t *testing.T) {
			test(records{t, reqctx.WithNamespace(t.Context(), "testing"), open(t)})
		})
	}
}

type records struct {
	*testing.T
	ctx   context.Context
	store sandbox.Store
}

func (r records) create(s sandbox.Sandbox) sandbox.Sandbox {
	r.Helper()
	out, err := r.store.Create(r.ctx, s)
	if err != nil {
		r.Fatal(err)
	}
	return out
}

func (r records) is(what string, err, class error) {
	r.Helper()
	if !errors.Is(err, class) {
		r.Errorf("%s: %v, want class %v", what, err, class)
	}
}

func any(text string) typeurl.Any { return &anypb.Any{TypeUrl: "testing/any", Value: []byte(text)} }

func text(a typeurl.Any) string {
	if a == nil {
		return ""
	}
	return string(a.GetValue())
}

func example() sandbox.Sandbox {
	return sandbox.Sandbox{
		ID: "pod-1", Labels: map[string]string{"app": "web", "dropped": ""}, Sandboxer: "shim",
		Runtime:    sandbox.Runtime{Name: "io.containerd.gantry.v2", Options: any("options")},
		Spec:       any("{}"),
		Extensions: map[string]typeurl.Any{"a": any("1"), "b": any("2")},
	}
}

func keptWhole(r records) {
	made := r.create(example())
	if made.CreatedAt.IsZero() || !made.CreatedAt.Equal(made.UpdatedAt) {
		r.Errorf("times %v and %v", made.CreatedAt, made.UpdatedAt)
	}
	got, err := r.store.Get(r.ctx, "pod-1")
	if err != nil {
		r.Fatal(err)
	}
	if got.ID != "pod-1" || got.Sandboxer != "shim" || got.Runtime.Name != "io.containerd.gantry.v2" ||
		text(got.Runtime.Options) != "options" || text(got.Spec) != "{}" || text(got.Extensions["b"]) != "2" || len(got.Extensions) != 2 {
		r.Errorf("got %+v", got)
	}
	if _, has := got.Labels["dropped"]; has || got.Labels["app"] != "web" {
		r.Errorf("labels %v", got.Labels)
	}
	if !got.CreatedAt.Equal(made.CreatedAt) {
		r.Errorf("created at %v, was told %v", got.CreatedAt, made.CreatedAt)
	}
	_, err = r.store.Create(r.ctx, example())
	r.is("second of a name", err, errdefs.ErrAlreadyExists)
	if err := r.store.Delete(r.ctx, "pod-1"); err != nil {
		r.Fatal(err)
	}
	_, err = r.store.Get(r.ctx, "pod-1")
	r.is("get of a deleted one", err, errdefs.ErrNotFound)
	r.create(example()) // the name is free
}

func update(r records) {
	made := r.create(example())
	change := sandbox.Sandbox{ID: "pod-1", Labels: map[string]string{"new": "1"}, Spec: any("changed"),
		Runtime: sandbox.Runtime{Name: "other"}}
	got, err := r.store.Update(r.ctx, change, "labels.new", "labels.app")
	if err != nil {
		r.Fatal(err)
	}
	if got.Labels["new"] != "1" || got.Labels["app"] != "" || text(got.Spec) != "{}" || got.Runtime.Name == "other" {
		r.Errorf("one label was asked for, got %+v", got)
	}
	if !got.UpdatedAt.After(made.UpdatedAt) || !got.CreatedAt.Equal(made.CreatedAt) {
		r.Errorf("times %v and %v, were %v", got.CreatedAt, got.UpdatedAt, made.CreatedAt)
	}
	if got, err = r.store.Update(r.ctx, change, "spec", "runtime"); err != nil || text(got.Spec) != "changed" || got.Runtime.Name != "other" {
		r.Errorf("spec and runtime: %+v, %v", got, err)
	}
	_, err = r.store.Update(r.ctx, sandbox.Sandbox{ID: "pod-1", Runtime: sandbox.Runtime{Name: "third"}})
	r.is("all fields with another runtime", err, errdefs.ErrInvalidArgument)
	got, err = r.store.Update(r.ctx, sandbox.Sandbox{ID: "pod-1", Runtime: sandbox.Runtime{Name: "other"}, Labels: map[string]string{"x": "y"}})
	if err != nil || len(got.Labels) != 1 || got.Spec != nil || len(got.Extensions) != 0 {
		r.Errorf("all fields: %+v, %v", got, err)
	}
	_, err = r.store.Update(r.ctx, change, "created_at")
	r.is("a field that can't be changed", err, errdefs.ErrInvalidArgument)
	_, err = r.store.Update(r.ctx, change, "sandboxer")
	r.is("another controller", err, errdefs.ErrInvalidArgument)
}

func updateExtensions(r records) {
	r.create(example())
	change := sandbox.Sandbox{ID: "pod-1", Extensions: map[string]typeurl.Any{"a": any("one"), "c": any("3")}}
	got, err := r.store.Update(r.ctx, change, "extensions.a")
	if err != nil || text(got.Extensions["a"]) != "one" || text(got.Extensions["b"]) != "2" || got.Extensions["c"] != nil {
		r.Errorf("one extension: %+v, %v", got.Extensions, err)
	}
	if got, err = r.store.Update(r.ctx, change, "extensions.b"); err != nil || got.Extensions["b"] != nil {
		r.Errorf("an extension that is gone: %+v, %v", got.Extensions, err)
	}
	if got, err = r.store.Update(r.ctx, change, "extensions"); err != nil || len(got.Extensions) != 2 || text(got.Extensions["c"]) != "3" {
		r.Errorf("all extensions: %+v, %v", got.Extensions, err)
	}
}

func refused(r records) {
	for name, s := range map[string]sandbox.Sandbox{
		"no id":             {},
		"an id with a path": {ID: "../x"},
		"a long id":         {ID: strings.Repeat("x", 200)},
		"a long label":      {ID: "pod", Labels: map[string]string{"k": strings.Repeat("v", 5000)}},
		"a nameless extension": {ID: "pod", Extensions: map[string]typeurl.Any{
			"": any("x")}},
	} {
		_, err := r.store.Create(r.ctx, s)
		r.is(name, err, errdefs.ErrInvalidArgument)
	}
	_, err := r.store.List(r.ctx, "labels.a==")
	r.is("a filter", err, errdefs.ErrInvalidArgument)
}

func notThere(r records) {
	_, err := r.store.Get(r.ctx, "none")
	r.is("get", err, errdefs.ErrNotFound)
	_, err = r.store.Get(r.ctx, "")
	r.is("get of no id", err, errdefs.ErrNotFound)
	_, err = r.store.Update(r.ctx, sandbox.Sandbox{ID: "none"}, "labels")
	r.is("update", err, errdefs.ErrNotFound)
	r.is("delete", r.store.Delete(r.ctx, "none"), errdefs.ErrNotFound)
	if list, err := r.store.List(r.ctx); err != nil || len(list) != 0 {
		r.Errorf("list: %v, %v", list, err)
	}
}

func filters(r records) {
	for _, id := range []string{"a", "b", "c"} {
		r.create(sandbox.Sandbox{ID: id, Labels: map[string]string{"name": id, "all": "yes"}})
	}
	for filter, want := range map[string]string{
		"":                 "a b c",
		"id==b":            "b",
		"labels.name==c":   "c",
		"labels.all":       "a b c",
		"id~=^[ab]$":       "a b",
		"labels.other==x":  "",
		"runtime.name==xy": "", // not a field of sandboxes
	} {
		var fs []string
		if filter != "" {
			fs = []string{filter}
		}
		list, err := r.store.List(r.ctx, fs...)
		if err != nil {
			r.Errorf("filter %q: %v", filter, err)
		}
		var ids []string
		for _, s := range list {
			ids = append(ids, s.ID)
		}
		slices.Sort(ids)
		if got := strings.Join(ids, " "); got != want {
			r.Errorf("filter %q: %q, want %q", filter, got, want)
		}
	}
}

func namespaces(r records) {
	r.create(example())
	other := reqctx.WithNamespace(r.ctx, "other")
	_, err := r.store.Get(other, "pod-1")
	r.is("another namespace's", err, errdefs.ErrNotFound)
	if _, err := r.store.Create(other, example()); err != nil {
		r.Error(err)
	}
	if list, err := r.store.List(other); err != nil || len(list) != 1 {
		r.Errorf("%v, %v", list, err)
	}
}
