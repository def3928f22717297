package integrationcli

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/opencontainers/go-digest"

	"gantry/api/failpoint"
	"gantry/internal/testutil/engine"
	"gantry/internal/testutil/leak"
	"gantry/internal/testutil/registrytest"
)

// TestFailPoints kills the engine, or the shim, at every fail point that there is in the
// source. The engine that comes next must find its way: what was acknowledged is true,
// there is neither a thing without its record nor a record without its thing, and what
// was cut off can be done again.
//
// The short form takes the middle one of the points of every operation.
func TestFailPoints(t *testing.T) {
	needFailpoints(t)
	subordinate(t)
	points := failpoints(t)
	if scale(1, 0) == 0 {
		points = sample(points)
	}
	if one := os.Getenv("GANTRY_TEST_FAILPOINT"); one != "" { // by hand
		points = slices.DeleteFunc(failpoints(t), func(p string) bool { return !strings.Contains(p, one) })
	}
	reg := registrytest.Start(t)
	pushTiny(reg)
	for lane := range 2 {
		t.Run(fmt.Sprintf("lane%d", lane), func(t *testing.T) {
			t.Parallel()
			var s *site
			for i := lane; i < len(points); i += 2 {
				if s == nil {
					s = newSite(t, reg)
				}
				if !t.Run(points[i], func(t *testing.T) { s.crash(t, points[i], false) }) {
					s = nil // nobody knows what it has
				}
				if s == nil || scale(1, 0) == 0 || !strings.HasPrefix(points[i], "shim/") {
					continue
				}
				if !t.Run(points[i]+" and the engine", func(t *testing.T) { s.crash(t, points[i], true) }) {
					s = nil
				}
			}
		})
	}
}

// sample takes the middle point of every operation.
func sample(points []string) (out []string) {
	operation := func(p string) string { return p[:strings.LastIndexByte(p, '.')] }
	for len(points) > 0 {
		n := 1
		for n < len(points) && operation(points[n]) == operation(points[0]) {
			n++
		}
		out = append(out, points[n/2])
		points = points[n:]
	}
	return out
}

// act is an operation by which points are reached. It notes what was acknowledged, and
// ends at the first step that fails.
type act func(s *site) error

// acts says by what a point is reached; the longest beginning of its name counts.
var acts = map[string]act{
	"daemon/container.":                     (*site).live,
	"daemon/exec.":                          (*site).live,
	"daemon/logger/forward.":                (*site).liveForwarded,
	"daemon/keeper.":                        (*site).liveForeign,
	"shim/keeper.":                          (*site).liveForeign,
	"shim/boot.keep.":                       (*site).liveForeign,
	"daemon/network":                        (*site).live,
	"daemon/network.allocate.host-recorded": (*site).liveOnHost,
	"daemon/volume.":                        (*site).live,
	"daemon/source.":                        (*site).liveWithImages,
	"daemon/container.create.view":          (*site).liveWithImages,
	"daemon/container.start.staged":         (*site).liveWithImages,
	"daemon/image.":                         (*site).load,
	"daemon/image.pull.":                    (*site).pull,
	"libctr/content.":                       (*site).load,
	"libctr/core/unpack.":                   (*site).load,
	"libctr/metadata.":                      (*site).load,
	"libctr/metadata.container.":            (*site).live,
	"libctr/metadata.collect.ingest":        (*site).abandon,
	"libctr/metadata.ingest.aborted":        (*site).abandon,
	"libctr/metadata.snapshot.forgotten":    (*site).live,
	"libctr/snapshot/":                      (*site).live,
	"libctr/snapshot/overlay.commit.":       (*site).load,
	"libctr/activation.":                    (*site).mounts,
	"libctr/registry.":                      (*site).transfer,
	"libctr/transfer.":                      (*site).transfer,
	"libctr/activation.sweep.":              (*site).unheld,
	"libctr/restart.":                       (*site).revived,
	"libctr/sandbox.":                       (*site).pod,
	"libctr/task.":                          (*site).live,
	"libctr/task.activate.":                 (*site).mounts,
	"libctr/task.group.":                    (*site).pods,
	"libctr/task.join.":                     (*site).pods,
	"libctr/task.launch.started":            (*site).liveStarted,
	"libctr/task.launch.saved":              (*site).liveStarted,
	"shim/boot.start.":                      (*site).liveStarted,
	"libctr/task.bundle.removed":            (*site).orphan,
	"libctr/task.bury.":                     (*site).orphan,
	"shim/":                                 (*site).live,
	"shim/boot.delete.":                     (*site).orphan,
	"shim/process.probe.":                   (*site).liveChecked,
	"daemon/container.checkpoint.":          (*site).liveDumped,
	"shim/process.restore.":                 (*site).liveDumped,
}

// befores leave something for the next start to put right: by that their points are
// reached. They end with the engine gone.
var befores = map[string]act{
	"daemon/container.restore.": (*site).lose,
	"daemon/image.restore.":     (*site).cutLoad,
	"libctr/restart.":           (*site).labelled,
	"libctr/task.reload.":       (*site).lose,

	"daemon/network/netns.create-owned.": (*site).remap,

	"daemon/container.checkpoint.": (*site).dump,
	"shim/process.restore.":        (*site).dump,
}

// afters take away what was made through the core and is none of the engine's: nothing
// but that may be left.
var afters = map[string]act{
	"libctr/restart.":               func(s *site) error { return s.core().Revived() },
	"libctr/sandbox.create.created": func(s *site) error { return s.core().NoPod() },
	"libctr/task.group.":            func(s *site) error { return s.core().NoMembers() },
	"libctr/task.join.":             func(s *site) error { return s.core().NoMembers() },
}

func actOf(acts map[string]act, point string) act {
	longest, found := "", act(nil)
	for prefix, a := range acts {
		if strings.HasPrefix(point, prefix) && len(prefix) > len(longest) {
			longest, found = prefix, a
		}
	}
	return found
}

// site is an engine's directories, over which many engines go.
type site struct {
	e       *engine.Engine
	reg     *registrytest.Registry
	grun    string
	ourShim string
	base    leak.State // what is there when nothing is
	said    said
}

// said is what was acknowledged, and what was asked for last.
type said struct {
	container, volume, image string // acknowledged and not asked to be removed
	noContainer, noVolume    string // their removal was acknowledged
	noImage                  string
	up                       bool // started, and not asked to be stopped
	awake                    bool // nobody has asked for a pause
}

func newSite(t *testing.T, reg *registrytest.Registry) *site {
	t.Helper()
	s := &site{e: start(t), reg: reg, grun: engine.Binary(t, "grun"), ourShim: engine.Binary(t, "containerd-shim-gantry-v2")}
	s.e.Must("create", "--name", "first", image, "true") // makes the image's init layer, which stays
	s.e.Must("rm", "first")
	if !s.e.Place().Agree(t) {
		t.FailNow()
	}
	s.base = s.e.Place().There()
	return s
}

// crash lets the process die at the point, in the midst of what reaches it; with both,
// a shim and the engine at once.
func (s *site) crash(t *testing.T, point string, both bool) {
	act := actOf(acts, point)
	if act == nil {
		t.Fatal("nothing is known that reaches it")
	}
	mark := filepath.Join(s.e.Dir, "mark")
	os.Remove(mark)
	os.Remove(s.settings())
	s.said = said{}
	if before := actOf(befores, point); before != nil {
		if err := before(s); err != nil {
			t.Fatal(err)
		}
	}
	s.e.Kill()
	err := s.e.TryLaunch(failpoint.Variable+"="+point+"=kill", failpoint.Mark+"="+mark)
	marked := func() bool { _, err := os.Lstat(mark); return err == nil }
	var wg sync.WaitGroup
	if both {
		wg.Go(func() {
			if becomesTrue(time.Minute, marked) {
				syscall.Kill(s.e.PID(), syscall.SIGKILL)
			}
		})
	}
	if err == nil {
		err = act(s)
	}
	if !becomesTrue(5*time.Second, marked) {
		t.Fatalf("not reached: %v\n%s", err, s.e.Log())
	}
	wg.Wait()
	if strings.HasPrefix(point, "shim/") && !both { // the engine must do without
		s.settled(t, false)
	} else {
		select {
		case <-s.e.Ended():
		case <-time.After(5 * time.Second):
			t.Fatal("the engine goes on")
		}
	}
	s.e.Kill()
	s.e.Launch()
	if after := actOf(afters, point); after != nil {
		if err := after(s); err != nil {
			t.Errorf("after the crash: %v", err)
		}
	}
	s.settled(t, !strings.HasPrefix(point, "shim/"))
	if t.Failed() {
		return
	}
	s.again(t, act)
}

func becomesTrue(d time.Duration, ok func() bool) bool {
	for deadline := time.Now().Add(d); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// settled checks that all is consistent and as it was said; up says whether what ran
// must run.
func (s *site) settled(t *testing.T, up bool) {
	t.Helper()
	if !s.e.Place().Agree(t) {
		t.Logf("log:\n%s", s.e.Log())
	}
	have := func(path string) bool {
		status, text, err := ask(s.e, "GET", path, nil)
		if err != nil || status != 200 && status != 404 {
			t.Errorf("GET %s: %d %v %s", path, status, err, text)
		}
		return status == 200
	}
	for _, x := range []struct {
		path, there, gone string
	}{
		{"/containers/%s/json", s.said.container, s.said.noContainer},
		{"/volumes/%s", s.said.volume, s.said.noVolume},
		{"/images/%s/json", s.said.image, s.said.noImage},
	} {
		if x.there != "" && !have(fmt.Sprintf(x.path, x.there)) {
			t.Errorf("%s was acknowledged and is not there", x.there)
		}
		if x.gone != "" && have(fmt.Sprintf(x.path, x.gone)) {
			t.Errorf("%s was removed and is there", x.gone)
		}
	}
	if s.said.awake && strings.TrimSpace(s.e.Docker("inspect", "-f", "{{.State.Paused}}", "fp").Stdout) == "true" {
		t.Error("the container is paused, and nobody has asked for it")
	}
	if up && s.said.up && !s.running(t) {
		t.Error("the container was started and does not run")
	}
}

func (s *site) running(t *testing.T) bool {
	t.Helper()
	_, text, err := ask(s.e, "GET", "/containers/"+s.said.container+"/json", nil)
	var in containertypes.InspectResponse
	if err != nil || json.Unmarshal([]byte(text), &in) != nil || in.ContainerJSONBase == nil {
		t.Errorf("inspect: %v %s", err, text)
		return false
	}
	return in.State.Running
}

// again ends what was cut off, does it anew and takes it away; nothing may stay.
func (s *site) again(t *testing.T, act act) {
	t.Helper()
	for _, step := range []struct{ what, method, path string }{
		{"start", "POST", "/containers/fp/start"},
		{"stop", "POST", "/containers/fp/stop?t=0"},
		{"remove", "DELETE", "/containers/fp?v=1"},
		{"remove", "DELETE", "/containers/fp2?v=1"},
		{"remove", "DELETE", "/volumes/fp"},
	} {
		if status, text, err := ask(s.e, step.method, step.path, nil); err != nil || status >= 300 && status != 304 && status != 404 {
			t.Errorf("%s after the crash: %d %v %s", step.what, status, err, text)
		}
	}
	s.said = said{}
	if err := act(s); err != nil {
		t.Errorf("once more: %v", err)
	}
	s.settled(t, false)
	var left []string
	if !becomesTrue(10*time.Second, func() bool {
		left = minus(s.e.Place().There(), s.base)
		return len(left) == 0
	}) {
		t.Errorf("left:\n%s\nwhere there was:\n%s", strings.Join(left, "\n"), strings.Join(s.base, "\n"))
	}
}

// call makes one request that must succeed; a failure within a stream counts.
func (s *site) call(method, path string, body any) (string, error) {
	status, text, err := ask(s.e, method, path, body)
	if err == nil && (status >= 300 || strings.Contains(text, `"errorDetail"`)) {
		err = fmt.Errorf("status %d: %s", status, strings.TrimSpace(text))
	}
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", method, path, err)
	}
	return text, nil
}

// live takes a container with all that a container can have through its life.
func (s *site) live() error {
	if _, err := s.call("POST", "/volumes/create", object{
		"Name": "fp", "DriverOpts": object{"type": "tmpfs", "device": "tmpfs"},
	}); err != nil {
		return err
	}
	s.said.volume = "fp"
	return s.life(full())
}

// full is the create request of a container with all that a container can have.
func full() object {
	return object{
		"Image": image, "Cmd": []string{"sleep", "1000"}, "Volumes": object{"/anonymous": object{}},
		"WorkingDir": "/made/for/it", "ExposedPorts": object{"80/tcp": object{}},
		"HostConfig": object{
			"Binds": []string{"fp:/v"}, "IpcMode": "shareable",
			"PortBindings": object{"80/tcp": []object{{"HostPort": ""}}},
		},
	}
}

func (s *site) liveOnHost() error {
	return s.life(object{"Image": image, "Cmd": []string{"sleep", "1000"}, "HostConfig": object{"NetworkMode": "host"}})
}

func (s *site) life(create object) error {
	if err := s.begin(create); err != nil {
		return err
	}
	if r := s.e.Docker("exec", "fp", "echo", "alive"); r.Stdout != "alive\n" {
		return fmt.Errorf("exec: %+v", r)
	}
	s.said.up = false
	if _, err := s.call("POST", "/containers/fp/stop?t=0", nil); err != nil {
		return err
	}
	id := s.said.container
	s.said.container = ""
	if _, err := s.call("DELETE", "/containers/fp?v=1", nil); err != nil {
		return err
	}
	s.said.noContainer = id
	if s.said.volume == "" {
		return nil
	}
	s.said.volume = ""
	if _, err := s.call("DELETE", "/volumes/fp", nil); err != nil {
		return err
	}
	s.said.noVolume = "fp"
	return nil
}

// begin makes the container and starts it.
func (s *site) begin(create object) error {
	text, err := s.call("POST", "/containers/create?name=fp", create)
	if err != nil {
		return err
	}
	s.said.container = field(text, "Id")
	if _, err := s.call("POST", "/containers/fp/start", nil); err != nil {
		return err
	}
	s.said.up = true
	return nil
}

// lose ends a running container together with its engine.
func (s *site) lose() error {
	if _, err := s.call("POST", "/volumes/create", object{
		"Name": "fp", "DriverOpts": object{"type": "tmpfs", "device": "tmpfs"},
	}); err != nil {
		return err
	}
	s.said.volume = "fp"
	if err := s.begin(full()); err != nil {
		return err
	}
	s.said.up = false
	shim, err := s.shim()
	if err != nil {
		return err
	}
	s.e.Kill()
	return syscall.Kill(shim, syscall.SIGKILL)
}

func (s *site) settings() string { return filepath.Join(s.e.Dir, "daemon.json") }

// remap gives the containers of the next engine ids of their own.
func (s *site) remap() error {
	s.e.Kill()
	return os.WriteFile(s.settings(), []byte(`{"userns-remap": "`+remapUser+`"}`), 0o600)
}

// cutLoad lets the engine die while it unpacks.
func (s *site) cutLoad() error {
	s.e.Kill()
	if err := s.e.TryLaunch(failpoint.Variable + "=libctr/core/unpack.layer.applied=kill"); err != nil {
		return err
	}
	if s.send(tinyArchive("cut")) == nil {
		return errors.New("the load was not cut off")
	}
	<-s.e.Ended()
	return nil
}

// shim is the pid of the running container's shim.
func (s *site) shim() (int, error) {
	text, err := s.call("GET", "/containers/fp/json", nil)
	if err != nil {
		return 0, err
	}
	var in containertypes.InspectResponse
	if err := json.Unmarshal([]byte(text), &in); err != nil {
		return 0, err
	}
	return parentOf(in.State.Pid)
}

// orphan kills the shim of a running container.
func (s *site) orphan() error {
	if err := s.begin(sleeper("bridge")); err != nil {
		return err
	}
	s.said.up = false
	shim, err := s.shim()
	if err != nil {
		return err
	}
	if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
		return err
	}
	id := s.said.container
	if !becomesTrue(5*time.Second, func() bool {
		var text string
		_, text, err = ask(s.e, "GET", "/containers/fp/json", nil)
		return err != nil || strings.Contains(text, `"Status":"exited"`)
	}) {
		return errors.New("the container is not reported dead")
	}
	if err != nil {
		return err
	}
	s.said.container = ""
	if _, err := s.call("DELETE", "/containers/fp", nil); err != nil {
		return err
	}
	s.said.noContainer = id
	return nil
}

func parentOf(pid int) (int, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	var state string
	var parent int
	_, err = fmt.Sscan(string(raw[bytes.LastIndexByte(raw, ')')+1:]), &state, &parent)
	return parent, err
}

// load takes an image in, another under its name, and removes both.
func (s *site) load() error {
	for _, version := range []string{"one", "two"} {
		if err := s.send(tinyArchive(version)); err != nil {
			return err
		}
		s.said.image = "tiny:1"
	}
	s.said.image = ""
	return s.removeImages("tiny:1")
}

// send loads an archive.
func (s *site) send(archive []byte) error {
	r, err := s.e.HTTP().Post("http://gantry/v1.51/images/load", "application/x-tar", bytes.NewReader(archive))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK || !strings.Contains(string(text), "Loaded image") || strings.Contains(string(text), "rror") {
		return fmt.Errorf("load: %s %s", r.Status, text)
	}
	return nil
}

// removeImages removes an image by its name, and what has none.
func (s *site) removeImages(name string) error {
	if _, err := s.call("DELETE", "/images/"+name, nil); err != nil {
		return err
	}
	s.said.noImage = name
	_, err := s.call("POST", "/images/prune", nil)
	return err
}

func (s *site) pull() error {
	name := s.reg.Host + "/tiny:1"
	if _, err := s.call("POST", "/images/create?fromImage="+s.reg.Host+"/tiny&tag=1", nil); err != nil {
		return err
	}
	return s.removeImages(name)
}

// tinyLayers are two layers with a file each; version tells one image from another.
func tinyLayers(version string) (layers [][]byte) {
	for _, name := range []string{"first", "second"} {
		layers = append(layers, tarOf(map[string][]byte{name: []byte(version)}))
	}
	return layers
}

// tinyArchive is an image "tiny:1" as docker save has it.
func tinyArchive(version string) []byte {
	files := map[string][]byte{}
	var layers, diffs []string
	for i, l := range tinyLayers(version) {
		name := fmt.Sprintf("%d/layer.tar", i)
		files[name] = l
		layers, diffs = append(layers, name), append(diffs, digest.FromBytes(l).String())
	}
	config, _ := json.Marshal(object{
		"architecture": runtime.GOARCH, "os": "linux", "config": object{},
		"rootfs": object{"type": "layers", "diff_ids": diffs},
	})
	sum := sha256.Sum256(config)
	name := hex.EncodeToString(sum[:]) + ".json"
	files[name] = config
	files["manifest.json"], _ = json.Marshal([]object{{"Config": name, "RepoTags": []string{"tiny:1"}, "Layers": layers}})
	return tarOf(files)
}

func tarOf(files map[string][]byte) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, data := range files {
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(data))}) //nolint:errcheck // to memory
		w.Write(data)                                                                                      //nolint:errcheck // to memory
	}
	w.Close()
	return buf.Bytes()
}

func pushTiny(r *registrytest.Registry) {
	img := registrytest.Image{Architecture: runtime.GOARCH, Layers: tinyLayers("pulled")}
	for _, l := range img.Layers {
		img.DiffIDs = append(img.DiffIDs, digest.FromBytes(l))
	}
	r.Push("tiny", "1", img)
}
