package shimwire_test

import (
	"strings"
	"testing"

	"gantry/api/shimwire"
)

func TestHopsThereAndBack(t *testing.T) {
	in := shimwire.Hops{Traceparent: "00-aa-bb-01", Container: "c", Pid: 7, Hops: []shimwire.Hop{
		{Name: "outer", Start: 1, End: 9, Parent: -1}, {Name: "inner", Process: "init", Start: 2, End: 3},
	}}
	a, err := in.Any()
	if err != nil {
		t.Fatal(err)
	}
	out, err := shimwire.ParseHops(a.TypeUrl, a.Value)
	if err != nil || out.Traceparent != in.Traceparent || len(out.Hops) != 2 || out.Hops[1].Process != "init" {
		t.Errorf("%+v, %v", out, err)
	}
}

func TestHopsAreBounded(t *testing.T) {
	in := shimwire.Hops{}
	for range 1500 {
		in.Hops = append(in.Hops, shimwire.Hop{Name: strings.Repeat("x", 2000), Parent: -1})
	}
	a, err := in.Any()
	if err != nil || len(a.Value) > shimwire.MaxHopsSize {
		t.Fatalf("%d bytes, %v", len(a.Value), err)
	}
	out, err := shimwire.ParseHops(a.TypeUrl, a.Value)
	if err != nil || len(out.Hops) == 0 || out.Lost+len(out.Hops) != 1500 {
		t.Errorf("%d hops, %d lost, %v", len(out.Hops), out.Lost, err)
	}
}

func TestBadHops(t *testing.T) {
	good, _ := shimwire.Hops{}.Any()
	for name, c := range map[string]struct{ typ, value string }{
		"another type":      {"containerd.events.TaskExit", "{}"},
		"no JSON":           {good.TypeUrl, "x"},
		"part of itself":    {good.TypeUrl, `{"hops":[{"in":0}]}`},
		"part of the later": {good.TypeUrl, `{"hops":[{"in":-1},{"in":5}]}`},
		"part of nothing":   {good.TypeUrl, `{"hops":[{"in":-2}]}`},
		"backwards":         {good.TypeUrl, `{"hops":[{"in":-1,"s":2,"e":1}]}`},
		"too large":         {good.TypeUrl, strings.Repeat(" ", shimwire.MaxHopsSize+1)},
		"too many":          {good.TypeUrl, `{"hops":[` + strings.Repeat(`{"in":-1},`, shimwire.MaxHops) + `{"in":-1}]}`},
	} {
		if _, err := shimwire.ParseHops(c.typ, []byte(c.value)); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}
