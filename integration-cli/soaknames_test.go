package integrationcli

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestSoakNames has eight clients create, start, stop, rename and remove containers of
// the same few names. Every answer comes and is one of those that fit, and at the end
// names, ids and states agree.
func TestSoakNames(t *testing.T) {
	e := start(t)
	names := []string{"n0", "n1", "n2", "n3"}
	n := scale(2000, 80)
	lanes(t, 8, func(lane int) error {
		r := rand.New(rand.NewPCG(uint64(lane), 1))
		for range n {
			name := names[r.IntN(len(names))]
			method, path, body := "POST", "", any(nil)
			switch r.IntN(10) {
			case 0, 1, 2:
				path, body = "/containers/create?name="+name, sleeper([]string{"none", "bridge"}[r.IntN(2)])
			case 3, 4, 5:
				path = "/containers/" + name + "/start"
			case 6:
				path = "/containers/" + name + "/stop?t=0"
			case 7:
				path = "/containers/" + name + "/rename?name=" + names[r.IntN(len(names))]
			case 8:
				path = "/containers/" + name + "/kill"
			case 9:
				method, path = "DELETE", "/containers/"+name+"?force=1"
			}
			status, text, err := ask(e, method, path, body)
			if err != nil {
				return fmt.Errorf("%s %s: %w", method, path, err)
			}
			if !slices.Contains([]int{201, 204, 304, 404, 409}, status) && !strings.Contains(text, "Renaming a container with the same name") {
				return fmt.Errorf("%s %s: status %d: %s", method, path, status, text)
			}
		}
		return nil
	})
	var all []struct {
		ID    string
		Names []string
		State string
	}
	if _, text := do(t, e, "GET", "/containers/json?all=1", ""); json.Unmarshal([]byte(text), &all) != nil || len(all) > len(names) {
		t.Fatalf("the list at the end: %s", text)
	}
	for _, c := range all {
		if len(c.Names) != 1 {
			t.Errorf("names of %s: %v", c.ID, c.Names)
			continue
		}
		if in := inspect(t, e, c.Names[0]); in.ID != c.ID || in.State.Status != c.State || in.State.Running != (in.State.Pid != 0) {
			t.Errorf("%v is %+v, inspected %s %+v", c.Names, c, in.ID, in.State)
		}
		e.Must("rm", "-f", c.ID)
	}
	for _, name := range names { // no name is kept by what has gone
		if _, err := want(e, 201, "POST", "/containers/create?name="+name, sleeper("none")); err != nil {
			t.Error(err)
		}
	}
	e.Clean(t)
}
