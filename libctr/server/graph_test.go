package server

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/plugin"
)

func testGraph(t *testing.T) *graph {
	return &graph{set: plugin.NewPluginSet(), log: slog.New(slog.NewTextHandler(t.Output(), nil))}
}

func TestGraphOrderAndFailures(t *testing.T) {
	var order []string
	reg := func(typ plugin.Type, id string, fn func(*plugin.InitContext) (any, error), requires ...plugin.Type) *plugin.Registration {
		return &plugin.Registration{Type: typ, ID: id, Requires: requires, InitFn: func(ic *plugin.InitContext) (any, error) {
			order = append(order, id)
			return fn(ic)
		}}
	}
	fine := func(*plugin.InitContext) (any, error) { return "instance", nil }
	g := testGraph(t)
	err := g.init(t.Context(), Config{DisabledPlugins: []string{"a.off"}}, []*plugin.Registration{
		reg("c", "last", func(ic *plugin.InitContext) (any, error) { return lookup[string](ic, "b", "middle") }, "b"),
		reg("b", "middle", fine, "a"),
		reg("a", "first", fine),
		reg("a", "off", fine),
		reg("a", "broken", func(*plugin.InitContext) (any, error) { return nil, errors.New("broken") }),
		reg("a", "panics", func(*plugin.InitContext) (any, error) { panic("ouch") }),
		reg("a", "skipped", func(*plugin.InitContext) (any, error) { return nil, plugin.ErrSkipPlugin }),
		reg("d", "wrongtype", func(ic *plugin.InitContext) (any, error) { return lookup[int](ic, "b", "middle") }, "b"),
	})
	if err != nil {
		t.Fatal(err)
	}
	if i := slices.Index(order, "middle"); i < slices.Index(order, "first") || i > slices.Index(order, "last") {
		t.Errorf("order %v", order)
	}
	want := map[string]string{"first": "", "middle": "", "last": "", "broken": "broken", "panics": "panic: ouch",
		"skipped": "skip", "wrongtype": "is a string"}
	for _, p := range g.set.GetAll() {
		text, known := want[p.Registration.ID]
		if !known || (p.Err() == nil) != (text == "") || (p.Err() != nil && !strings.Contains(p.Err().Error(), text)) {
			t.Errorf("%s: %v", p.Registration.ID, p.Err())
		}
		delete(want, p.Registration.ID)
	}
	if len(want) > 0 {
		t.Errorf("not there: %v", want)
	}
}

func TestRequiredPlugins(t *testing.T) {
	broken := &plugin.Registration{Type: "a", ID: "broken", InitFn: func(*plugin.InitContext) (any, error) {
		return nil, errors.New("no disk")
	}}
	for name, tc := range map[string]struct{ uri, want string }{
		"fails":      {"a.broken", "required plugin a.broken: no disk"},
		"is missing": {"a.nope", "[a.nope] are not there"},
	} {
		err := testGraph(t).init(t.Context(), Config{RequiredPlugins: []string{tc.uri}}, []*plugin.Registration{broken})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPluginConfiguration(t *testing.T) {
	type conf struct {
		Root string `toml:"root"`
	}
	run := func(table map[string]any) (string, error) {
		g := testGraph(t)
		err := g.init(t.Context(), Config{Plugins: map[string]any{"a.one": table}, RequiredPlugins: []string{"a.one"}},
			[]*plugin.Registration{{Type: "a", ID: "one", Config: &conf{Root: "default"}, InitFn: func(ic *plugin.InitContext) (any, error) {
				return ic.Config.(*conf).Root, nil
			}}})
		if err != nil {
			return "", err
		}
		v, err := g.set.Get("a", "one").Instance()
		return v.(string), err
	}
	if got, err := run(map[string]any{"root": "/x"}); got != "/x" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := run(nil); got != "default" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := run(map[string]any{"root": "/x", "rooot": "/y"}); got != "/x" || err != nil {
		t.Errorf("unknown key: %q, %v", got, err)
	}
	if _, err := run(map[string]any{"root": 3}); err == nil || !strings.Contains(err.Error(), `plugins."a.one": root`) {
		t.Errorf("wrong type: %v", err)
	}
}

func TestClosersRunInReverse(t *testing.T) {
	g := testGraph(t)
	var order []string
	for _, name := range []string{"one", "two"} {
		g.onClose(name, func(context.Context) error {
			order = append(order, name)
			return errors.New("stuck")
		})
	}
	err := g.close(t.Context())
	if !slices.Equal(order, []string{"two", "one"}) || err == nil || !strings.Contains(err.Error(), "close one: stuck") {
		t.Errorf("order %v, %v", order, err)
	}
}

func TestDuplicatePluginIsAnError(t *testing.T) {
	r := &plugin.Registration{Type: "a", ID: "one", InitFn: func(*plugin.InitContext) (any, error) { return 1, nil }}
	if err := testGraph(t).init(t.Context(), Config{}, []*plugin.Registration{r, r}); err == nil {
		t.Error("taken twice")
	}
}
