package integrationcli

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	volumetypes "github.com/docker/docker/api/types/volume"

	"gantry/internal/testutil/engine"
)

// TestSoakCrash kills the daemon at random moments while four lanes create, start,
// stop and remove containers. Afterwards what was acknowledged is true, and there is
// neither a thing without its record nor a record without its thing.
func TestSoakCrash(t *testing.T) {
	e := start(t)
	idle := snapshotKeys(t, e)
	b := &book{there: map[string]bool{}, gone: map[string]bool{}, ports: map[string]bool{}}
	var over atomic.Bool
	var wg sync.WaitGroup
	for lane := range 4 {
		wg.Go(func() {
			for i := 0; !over.Load(); i++ {
				b.live(e, lane, i)
			}
		})
	}
	for range scale(100, 4) {
		time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond)
		e.Kill()
		e.Launch()
	}
	over.Store(true)
	wg.Wait()

	listed := ids(t, e)
	for id := range b.there {
		if !slices.Contains(listed, id) {
			t.Errorf("container %s was acknowledged and is not there", id)
		}
	}
	for id := range b.gone {
		if slices.Contains(listed, id) {
			t.Errorf("container %s was removed and is there", id)
		}
	}
	for _, id := range listed {
		usable(t, e, id)
	}
	eventually(t, "every volume has its container", func() bool { return len(volumes(t, e)) == anonymous(t, e, ids(t, e)) })
	for _, id := range ids(t, e) {
		e.Must("rm", "-fv", id)
	}
	if left := volumes(t, e); len(left) > 0 {
		t.Errorf("volumes left: %v", left)
	}
	eventually(t, "no snapshot is left", func() bool { return len(minus(snapshotKeys(t, e), idle)) == 0 })
	for port := range b.ports { // nothing holds them
		l, err := net.Listen("tcp", ":"+port)
		if err != nil {
			t.Error(err)
			continue
		}
		l.Close()
	}
	e.Clean(t)
	if t.Failed() {
		t.Logf("snapshots left: %v", minus(snapshotKeys(t, e), idle))
	}
}

// book is what was acknowledged.
type book struct {
	mu          sync.Mutex
	there, gone map[string]bool
	ports       map[string]bool
}

func (b *book) note(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

// live takes one container through its life, until the daemon goes away under it;
// what the answers said is noted.
func (b *book) live(e *engine.Engine, lane, i int) {
	c := object{"Image": image, "Cmd": []string{"sleep", "1000"}, "Volumes": object{"/data": object{}}}
	switch lane {
	case 0:
		c["HostConfig"] = object{"NetworkMode": "none"}
	case 1:
		c["ExposedPorts"] = object{"80/tcp": object{}}
		c["HostConfig"] = object{"PublishAllPorts": true}
	}
	name := fmt.Sprintf("l%d-%d", lane, i)
	text, err := want(e, 201, "POST", "/containers/create?name="+name, c)
	if err != nil {
		time.Sleep(10 * time.Millisecond)
		return
	}
	id := field(text, "Id")
	b.note(func() { b.there[id] = true })
	for _, step := range []string{"/start", "/stop?t=0"} {
		if _, _, err := ask(e, "POST", "/containers/"+id+step, nil); err != nil {
			return
		}
		if lane == 1 && step == "/start" {
			b.notePorts(e, id)
		}
	}
	b.note(func() { delete(b.there, id) }) // from here on it may be gone
	if _, err := want(e, 204, "DELETE", "/containers/"+id+"?v=1&force=1", nil); err == nil {
		b.note(func() { b.gone[id] = true })
	}
}

func (b *book) notePorts(e *engine.Engine, id string) {
	_, text, err := ask(e, "GET", "/containers/"+id+"/json", nil)
	var in containertypes.InspectResponse
	if err != nil || json.Unmarshal([]byte(text), &in) != nil || in.NetworkSettings == nil {
		return
	}
	for _, bindings := range in.NetworkSettings.Ports {
		for _, p := range bindings {
			b.note(func() { b.ports[p.HostPort] = true })
		}
	}
}

// usable stops, starts and looks at a container that has outlived crashes.
func usable(t *testing.T, e *engine.Engine, id string) {
	t.Helper()
	var status int
	var text string
	eventually(t, "container "+id[:12]+" is started or gone", func() bool { // a removal may be on its way
		status, text, _ = ask(e, "POST", "/containers/"+id+"/start", nil)
		return status == 204 || status == 304 || status == 404
	})
	if status == 404 {
		return
	}
	in := inspect(t, e, id)
	if !in.State.Running || in.State.Pid == 0 {
		t.Errorf("%s after start: %+v %s", id, in.State, text)
	}
	if got := e.Docker("exec", id, "sh", "-c", "echo x > /data/f && cat /data/f"); got.Stdout != "x\n" {
		t.Errorf("exec in %s: %+v", id, got)
	}
}

func ids(t *testing.T, e *engine.Engine) []string {
	return strings.Fields(e.Must("ps", "-aq", "--no-trunc"))
}

func anonymous(t *testing.T, e *engine.Engine, ids []string) (n int) {
	for _, id := range ids {
		n += len(inspect(t, e, id).Mounts)
	}
	return n
}

func volumes(t *testing.T, e *engine.Engine) (names []string) {
	t.Helper()
	_, text := do(t, e, "GET", "/volumes", "")
	var l volumetypes.ListResponse
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		t.Fatal(err)
	}
	for _, v := range l.Volumes {
		names = append(names, v.Name)
	}
	return names
}

// snapshotKeys lists the core's snapshots of containers.
func snapshotKeys(t *testing.T, e *engine.Engine) (keys []string) {
	t.Helper()
	for line := range strings.Lines(ctr(t, e, "snapshots", "ls")) {
		keys = append(keys, strings.Fields(line)[0])
	}
	return keys
}

func minus(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}
