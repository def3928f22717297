package integrationcli

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/internal/testutil/engine"
)

// TestSoakCrash kills the daemon, and now and then a shim, at random moments while lanes
// create, start, exec, update, rename, commit, read, stop and remove containers, load and remove images, and make and
// remove volumes. All that was acknowledged stays true, all that was cut off can be asked
// for again, and in the end nothing is left.
func TestSoakCrash(t *testing.T) {
	e := start(t)
	e.Must("rm", e.Must("create", image)) // makes the image's init layer, which stays
	if !e.Place().Agree(t) {
		return
	}
	base := e.Place().There()
	c := &crasher{t: t, e: e, shot: map[string]bool{}}
	var wg sync.WaitGroup
	lane := func(once func(i int)) {
		wg.Go(func() {
			for i := 0; !c.over.Load() && !t.Failed(); i++ {
				once(i)
			}
		})
	}
	for n, request := range []object{
		sleeper("none"),
		{"Image": image, "Cmd": []string{"sleep", "1000"}, "ExposedPorts": object{"80/tcp": object{}},
			"HostConfig": object{"PublishAllPorts": true}},
		{"Image": image, "Cmd": []string{"sleep", "1000"}, "Volumes": object{"/data": object{}}},
		{"Image": image, "Cmd": []string{"sleep", "1000"}, "HostConfig": object{"IpcMode": "shareable"}},
	} {
		lane(func(i int) { c.container(fmt.Sprintf("l%d-%d", n, i), request) })
	}
	lane(c.image)
	lane(c.volume)
	lane(func(int) { c.shoot() })
	kills := scale(1000, 4)
	for n := 0; n < kills && !t.Failed(); n++ {
		time.Sleep(time.Duration(rand.IntN(700)) * time.Millisecond)
		e.Kill()
		e.Launch()
	}
	c.over.Store(true)
	wg.Wait()
	t.Logf("%d kills of the daemon, %d of shims; %d containers, %d images, %d volumes lived",
		kills, len(c.shot), c.lived[0].Load(), c.lived[1].Load(), c.lived[2].Load())
	if t.Failed() {
		return
	}
	e.Place().Agree(t)
	c.removed("/images/tiny:1")
	c.must("POST", "/images/prune", nil, 200)
	var left []string
	if !becomesTrue(10*time.Second, func() bool { left = minus(e.Place().There(), base); return len(left) == 0 }) {
		t.Errorf("left:\n%s", strings.Join(left, "\n"))
	}
}

// crasher is what the lanes share.
type crasher struct {
	t     *testing.T
	e     *engine.Engine
	over  atomic.Bool
	lived [3]atomic.Int64 // containers, images, volumes

	mu   sync.Mutex
	shot map[string]bool // guarded by mu; containers whose shim was killed
}

// patience is how long an operation may go without an answer.
const patience = time.Minute

// ask asks until there is an answer: as a client does whose daemon has gone.
func (c *crasher) ask(method, path string, body any) (status int, text string) {
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		if status, text, err = ask(c.e, method, path, body); err == nil {
			return status, text
		}
	}
	c.t.Errorf("%s %s: no answer: %v", method, path, err)
	return 0, ""
}

// must is ask that has to be answered by one of the statuses.
func (c *crasher) must(method, path string, body any, statuses ...int) (status int, text string) {
	status, text = c.ask(method, path, body)
	if !slices.Contains(statuses, status) {
		c.t.Errorf("%s %s: status %d, want %v: %s", method, path, status, statuses, strings.TrimSpace(text))
	}
	return status, text
}

// container takes one container through its life. A step that is cut off is made again;
// once a shim was killed, steps may find the container down.
func (c *crasher) container(name string, request object) {
	status, text := c.must("POST", "/containers/create?name="+name, request, 201, 409) // 409: the first time it was made
	id := field(text, "Id")
	if status == 409 {
		_, text = c.must("GET", "/containers/"+name+"/json", nil, 200)
		id = field(text, "Id")
	}
	for _, step := range []func(){
		func() { c.step(id, "POST", "/containers/"+id+"/start", nil, 204, 304) },
		func() { c.exec(id) },
		func() { c.verb(id, name) },
		func() { c.step(id, "POST", "/containers/"+id+"/stop?t=0", nil, 204, 304) },
	} {
		if rand.IntN(5) > 0 {
			step()
		}
		c.must("GET", "/containers/"+id+"/json", nil, 200)
	}
	c.removed("/containers/" + id + "?v=1&force=1")
	c.must("GET", "/containers/"+id+"/json", nil, 404)
	c.lived[0].Add(1)
}

// step is must, where another answer is fine for a container whose shim was killed.
func (c *crasher) step(id, method, path string, body any, statuses ...int) string {
	status, text := c.ask(method, path, body)
	c.mu.Lock()
	shot := c.shot[id]
	c.mu.Unlock()
	if !slices.Contains(statuses, status) && !shot {
		c.t.Errorf("%s %s: status %d, want %v: %s", method, path, status, statuses, strings.TrimSpace(text))
	}
	return text
}

// exec runs a process in the container, which is down when its start was left out. What
// the daemon knew of an exec is gone with it.
func (c *crasher) exec(id string) {
	text := c.step(id, "POST", "/containers/"+id+"/exec", object{"Cmd": []string{"true"}}, 201, 409)
	if x := field(text, "Id"); x != "" {
		c.step(id, "POST", "/exec/"+x+"/start", object{"Detach": true}, 200, 404, 409)
	}
}

// verb does something else with the container, and takes it back.
func (c *crasher) verb(id, name string) {
	at := "/containers/" + id
	switch rand.IntN(6) {
	case 0:
		c.step(id, "POST", at+"/update", object{"PidsLimit": 100 + rand.IntN(100)}, 200)
	case 1: // 400: the first time it was done
		c.step(id, "POST", at+"/rename?name=x"+name, nil, 204, 400)
		c.step(id, "POST", at+"/rename?name="+name, nil, 204, 400)
	case 2:
		tag := "soak:" + id[:12]
		c.step(id, "POST", "/commit?container="+id+"&repo=soak&tag="+id[:12], nil, 201)
		c.removed("/images/" + tag)
	case 3:
		c.step(id, "GET", at+"/changes", nil, 200)
	case 4:
		c.step(id, "GET", at+"/export", nil, 200)
	case 5:
		c.step(id, "GET", at+"/archive?path=/etc/passwd", nil, 200)
	}
}

// removed removes something; that it is gone may be the work of an attempt that was cut
// off, and of another that goes on.
func (c *crasher) removed(path string) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		status, text := c.ask("DELETE", path, nil)
		if status == 200 || status == 204 || status == 404 {
			return
		}
		if status != 409 {
			c.t.Errorf("DELETE %s: status %d: %s", path, status, strings.TrimSpace(text))
			return
		}
	}
	c.t.Errorf("DELETE %s: a conflict for %v", path, patience)
}

// image loads an image, at most over another of its name, and removes it.
func (c *crasher) image(i int) {
	s := &site{e: c.e}
	err := errors.New("not tried")
	for deadline := time.Now().Add(patience); err != nil && time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		err = s.send(tinyArchive(fmt.Sprint(i)))
	}
	if err != nil {
		c.t.Errorf("load: %v", err)
	}
	c.must("GET", "/images/tiny:1/json", nil, 200)
	if rand.IntN(3) == 0 {
		return // the next takes its name
	}
	c.removed("/images/tiny:1")
	c.must("GET", "/images/tiny:1/json", nil, 404)
	c.must("POST", "/images/prune", nil, 200)
	c.lived[1].Add(1)
}

func (c *crasher) volume(i int) {
	name := fmt.Sprintf("v%d", i)
	c.must("POST", "/volumes/create", object{"Name": name}, 201)
	c.must("GET", "/volumes/"+name, nil, 200)
	c.removed("/volumes/" + name)
	c.must("GET", "/volumes/"+name, nil, 404)
	c.lived[2].Add(1)
	time.Sleep(time.Duration(rand.IntN(50)) * time.Millisecond)
}

// shoot kills the shim of a running container.
func (c *crasher) shoot() {
	time.Sleep(time.Duration(rand.IntN(4000)) * time.Millisecond)
	_, text := c.ask("GET", "/containers/json", nil)
	var list []containertypes.Summary
	if json.Unmarshal([]byte(text), &list) != nil || len(list) == 0 {
		return
	}
	id := list[rand.IntN(len(list))].ID
	_, text = c.ask("GET", "/containers/"+id+"/json", nil)
	var in containertypes.InspectResponse
	if json.Unmarshal([]byte(text), &in) != nil || in.ContainerJSONBase == nil || !in.State.Running {
		return
	}
	shim, err := parentOf(in.State.Pid)
	if err != nil {
		return
	}
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", shim))
	if err != nil || !strings.Contains(string(line), id) || !strings.Contains(string(line), c.e.Dir+"/") {
		return // it has ended meanwhile
	}
	c.mu.Lock()
	c.shot[id] = true
	c.mu.Unlock()
	syscall.Kill(shim, syscall.SIGKILL)
}

func minus(a, b []string) []string {
	return slices.DeleteFunc(slices.Clone(a), func(s string) bool { return slices.Contains(b, s) })
}

func ids(t *testing.T, e *engine.Engine) []string {
	return strings.Fields(e.Must("ps", "-aq", "--no-trunc"))
}
