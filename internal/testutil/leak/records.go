package leak

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	mounttypes "github.com/docker/docker/api/types/mount"
	systemtypes "github.com/docker/docker/api/types/system"
	volumetypes "github.com/docker/docker/api/types/volume"
	"github.com/opencontainers/go-digest"

	"gantry/api/reqctx"
	"gantry/libctr/client"
	"gantry/libctr/core/content"
	"gantry/libctr/core/snapshot"
)

// ForeignRuntime is a runtime whose shim is another's, and keeps its state elsewhere.
const ForeignRuntime = "foreign"

// StartedRuntime is our own shim, brought up by the protocol that all shims know: to the
// engine it is another's.
const StartedRuntime = "started"

// ProgramRuntime is an OCI runtime's program under our own shim, which mounts the root for
// it on the host.
const ProgramRuntime = "program"

// Place is an engine: where it keeps its things, and where its records can be asked for.
type Place struct {
	Dir, Bridge string
	API         *http.Client // every request goes to the engine
	Core        string       // the core's socket
}

// Agree fails the test when the engine's records and what is on the machine do not come
// to agree within ten seconds: what was cut off is ended in the background. Nothing may
// be under way.
func (p Place) Agree(t testing.TB) bool {
	t.Helper()
	var odd []string
	var err error
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err = p.Collect(); err == nil {
			odd, err = p.Odd()
		}
		if err == nil && len(odd) == 0 {
			return true
		}
		if time.Now().After(deadline) {
			t.Errorf("records and things do not agree (%v):\n%s", err, strings.Join(odd, "\n"))
			return false
		}
	}
}

// Collect has the core drop what no record holds any more, now and not in its own time.
func (p Place) Collect() error {
	ctx, cancel := context.WithTimeout(reqctx.WithNamespace(context.Background(), "moby"), 10*time.Second)
	defer cancel()
	core, err := client.New(p.Core)
	if err != nil {
		return err
	}
	defer core.Close()
	l, err := core.Leases().Create(ctx, "", nil)
	if err != nil {
		return err
	}
	return core.Leases().Delete(ctx, l.ID, true)
}

// Odd lists things without a record, and records without their thing.
func (p Place) Odd() (odd []string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	core, err := client.New(p.Core)
	if err != nil {
		return nil, err
	}
	defer core.Close()
	recorded, err := p.recorded(ctx, core)
	if err != nil {
		return nil, err
	}
	there := p.There()
	for _, x := range there {
		if !slices.Contains(recorded, x) {
			odd = append(odd, "no record of "+x)
		}
	}
	for _, x := range recorded {
		if !slices.Contains(there, x) {
			odd = append(odd, "recorded, and not there: "+x)
		}
	}
	more, err := p.oddInCore(ctx, core)
	return append(odd, more...), err
}

// get decodes what the engine answers.
func (p Place) get(path string, into any) error {
	r, err := p.API.Get("http://gantry/v1.51" + path)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("GET %s: %s", path, r.Status)
	}
	return json.NewDecoder(r.Body).Decode(into)
}

func (p Place) containers() ([]containertypes.InspectResponse, error) {
	var list []containertypes.Summary
	if err := p.get("/containers/json?all=1", &list); err != nil {
		return nil, err
	}
	out := make([]containertypes.InspectResponse, len(list))
	for i, c := range list {
		if err := p.get("/containers/"+c.ID+"/json", &out[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// recorded is what must be there, by the records of the engine and the core, in the
// words of There.
func (p Place) recorded(ctx context.Context, core *client.Client) (out []string, err error) {
	all, err := p.containers()
	if err != nil {
		return nil, err
	}
	var daemon systemtypes.Info
	if err := p.get("/info", &daemon); err != nil {
		return nil, err
	}
	mounted := map[string]bool{} // volumes that running containers have
	shims, links := 0, 0
	for _, c := range all {
		out = append(out, "directory of container "+c.ID)
		if !c.State.Running {
			continue
		}
		for _, kind := range []string{"bundle", "work directory", "stream socket", "cgroup", "shim"} {
			out = append(out, kind+" "+c.ID)
		}
		out = append(out, fmt.Sprintf("process %d", c.State.Pid))
		out = append(out, limited(c.ID, c.HostConfig.Resources)...)
		if c.HostConfig.Runtime == ProgramRuntime {
			out = append(out, "mount "+p.path(coreState, "moby", c.ID, "rootfs"))
		}
		switch c.HostConfig.Runtime {
		case ForeignRuntime:
			out = append(out, "keeper "+c.ID, "fifos "+c.ID, "mount "+p.path(coreState, "moby", c.ID, "rootfs"))
		case StartedRuntime:
			out = append(out, "keeper "+c.ID, "fifos "+c.ID)
			shims++
		default:
			out = append(out, "runtime state "+c.ID)
			shims++
		}
		if mode := c.HostConfig.NetworkMode; !mode.IsHost() && !mode.IsContainer() {
			out = append(out, "netns "+c.ID[:12], "mount "+p.path("exec/netns", c.ID[:12]))
			if c.HostConfig.UsernsMode.IsPrivate() && slices.Contains(daemon.SecurityOptions, "name=userns") {
				out = append(out, "netns "+c.ID[:12]+"-user", "mount "+p.path("exec/netns", c.ID[:12])+"-user")
			}
			if !mode.IsNone() {
				links++
			}
		}
		if c.HostConfig.IpcMode.IsShareable() {
			out = append(out, "mount "+p.path("data/containers", c.ID, "shm"))
		}
		for port, bound := range c.NetworkSettings.Ports {
			for _, b := range bound {
				if !strings.Contains(b.HostIP, ":") {
					out = append(out, "nft "+port.Proto()+" "+b.HostPort)
				}
				if line := "port " + port.Proto() + " " + b.HostPort; !slices.Contains(out, line) {
					out = append(out, line)
				}
			}
		}
		for _, m := range c.Mounts {
			mounted[m.Name] = true
		}
	}
	out = append(out, fmt.Sprintf("%d shim sockets", shims), fmt.Sprintf("%d links", links))
	volumes, err := p.recordedVolumes(mounted)
	if err != nil {
		return nil, err
	}
	stored, err := p.recordedInCore(ctx, core)
	return append(append(out, volumes...), stored...), err
}

func (p Place) recordedVolumes(mounted map[string]bool) (out []string, err error) {
	var vols volumetypes.ListResponse
	if err := p.get("/volumes", &vols); err != nil {
		return nil, err
	}
	for _, v := range vols.Volumes {
		out = append(out, "volume "+v.Name)
		if mounted[v.Name] && v.Options["type"] != "" {
			out = append(out, "mount "+v.Mountpoint)
		}
	}
	return out, nil
}

// snapshotter is the one that engines use unless told otherwise.
const snapshotter = "overlayfs"

func (p Place) recordedInCore(ctx context.Context, core *client.Client) (out []string, err error) {
	spaces, err := core.Namespaces().List(ctx)
	if err != nil {
		return nil, err
	}
	snapshots, ingests := 0, 0
	for _, ns := range spaces {
		ctx := reqctx.WithNamespace(ctx, ns)
		err := core.Content().Walk(ctx, func(i content.Info) error {
			if line := "blob " + i.Digest.String(); !slices.Contains(out, line) {
				out = append(out, line)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
		open, err := core.Content().ListStatuses(ctx)
		if err != nil {
			return nil, err
		}
		ingests += len(open)
		err = core.Snapshotter(snapshotter).Walk(ctx, func(snapshot.Info) error { snapshots++; return nil })
		if err != nil {
			return nil, err
		}
	}
	return append(out, fmt.Sprintf("%d snapshots", snapshots), fmt.Sprintf("%d ingests", ingests)), nil
}

func (p Place) path(elem ...string) string {
	return filepath.Join(append([]string{p.Dir}, elem...)...)
}

// Directories of the core.
const (
	coreState     = "exec/core/io.containerd.runtime.v2.task"
	coreWork      = "data/core/io.containerd.runtime.v2.task"
	coreBlobs     = "data/core/io.containerd.content.v1.content/blobs"
	coreIngests   = "data/core/io.containerd.content.v1.content/ingest"
	coreSnapshots = "data/core/io.containerd.snapshotter.v1." + snapshotter
)

var (
	shimID     = regexp.MustCompile(` -id (\S+)`)
	nftElement = regexp.MustCompile(`(\w+) \. (\d+) : `)
)

// There lists what is on the machine, whoever knows of it.
func (p Place) There() (out State) {
	for _, k := range []struct{ kind, pattern string }{
		{"directory of container", "data/containers/*"}, {"bundle", coreState + "/*/*"}, {"work directory", coreWork + "/*/*"},
		{"bundle", coreState + "/*/.*"}, {"runtime state", "exec/runtime/*/*"}, {"netns", "exec/netns/*"}, {"stream socket", "exec/io/*"},
		{"volume", "data/volumes/*"}, {"source", "exec/sources/*"}, {"removed snapshot", coreSnapshots + "/removing/*"},
	} {
		for _, name := range names(p.path(k.pattern)) {
			out = append(out, k.kind+" "+strings.TrimSuffix(name, ".sock"))
		}
	}
	for i, line := range out {
		if id, ok := strings.CutSuffix(line, ".fifos"); ok {
			out[i] = strings.Replace(id, "stream socket", "fifos", 1)
		}
	}
	out = append(out, p.notes()...)
	out = append(out, limits(p.Dir)...)
	for _, b := range names(p.path(coreBlobs, "*/*")) {
		out = append(out, "blob "+digest.NewDigestFromEncoded(digest.SHA256, b).String())
	}
	out = append(out, mounts(p.Dir)...)
	groups := map[string]bool{}
	for _, line := range cgroups(p.Dir) {
		groups["cgroup "+filepath.Base(line)] = true
	}
	for line := range groups {
		out = append(out, line)
	}
	ports := listening()
	for _, line := range shims(p.Dir) {
		out = append(out, ofShim(line)...)
		out = append(out, heldBy(strings.Fields(line)[1], ports)...)
	}
	if pid, err := os.ReadFile(p.path("pid")); err == nil { // reserved on the way to a shim
		out = append(out, heldBy(strings.TrimSpace(string(pid)), ports)...)
	}
	for _, el := range elements(p.Dir) {
		if m := nftElement.FindStringSubmatch(el); m != nil {
			out = append(out, "nft "+m[1]+" "+m[2])
		}
	}
	return append(out,
		fmt.Sprintf("%d shim sockets", len(names(p.path("exec/core/s/*")))), fmt.Sprintf("%d links", len(links(p.Bridge))),
		fmt.Sprintf("%d ingests", len(names(p.path(coreIngests, "*")))),
		fmt.Sprintf("%d snapshots", len(names(p.path(coreSnapshots, "snapshots/*")))))
}

// notes are what is written down while something is under way, and files that are there
// only as long.
func (p Place) notes() (out []string) {
	for _, pattern := range []string{
		"data/containers/*/frozen", "data/containers/*/updating", "data/containers/*/checkpoint", "data/containers/*/checkpoints/.*", "exec/io/*.fifos/*.[012]", "data/.*-*", "data/core/*/.*-*",
		coreState + "/*/*/exec-process-*", "data/containers/*/*.tmp",
	} {
		found, _ := filepath.Glob(p.path(pattern))
		for _, f := range found {
			if !strings.HasPrefix(filepath.Base(f), "init.") {
				out = append(out, "note "+strings.TrimPrefix(f, p.Dir+"/"))
			}
		}
	}
	return out
}

func names(pattern string) (out []string) {
	found, _ := filepath.Glob(pattern)
	for _, f := range found {
		if name := filepath.Base(f); name != "." && name != ".." {
			out = append(out, name)
		}
	}
	return out
}

// ofShim is a shim, and the processes whose parent it is: the inits. Execs are told
// apart by their parents' cgroup being the same; there must be none.
func ofShim(line string) (out []string) {
	f := strings.Fields(line) // "process PID command…"
	m := shimID.FindStringSubmatch(line)
	if m == nil {
		return []string{"shim " + line}
	}
	if f[len(f)-1] == "keep" {
		return []string{"keeper " + m[1]}
	}
	out = append(out, "shim "+m[1])
	raw, _ := os.ReadFile("/proc/" + f[1] + "/task/" + f[1] + "/children")
	children := strings.Fields(string(raw))
	tasks, _ := filepath.Glob("/proc/" + f[1] + "/task/*/children")
	for _, t := range tasks {
		raw, _ := os.ReadFile(t)
		children = append(children, strings.Fields(string(raw))...)
	}
	slices.Sort(children)
	for _, pid := range slices.Compact(children) {
		out = append(out, "process "+pid)
	}
	return out
}

// oddInCore compares the core's records with the engine's, and with each other.
func (p Place) oddInCore(ctx context.Context, core *client.Client) (odd []string, err error) {
	all, err := p.containers()
	if err != nil {
		return nil, err
	}
	ctx = reqctx.WithNamespace(ctx, "moby")
	known, running := map[string]bool{}, map[string]bool{}
	views := map[string]bool{} // of images that containers have mounted
	for _, c := range all {
		known[c.ID], running[c.ID] = true, c.State.Running
		for i, m := range c.Mounts {
			if m.Type == mounttypes.TypeImage {
				views[fmt.Sprintf("%s-image-%d", c.ID, i)] = true
			}
		}
	}
	has := map[string]bool{}
	note := func(kind, id string, expected bool) {
		has[kind+" "+id] = true
		if !expected {
			odd = append(odd, "the core has, and the engine does not know: "+kind+" "+id)
		}
	}
	containers, err := core.Containers().List(ctx)
	for _, c := range containers {
		note("container", c.ID, running[c.ID])
	}
	if err != nil {
		return nil, err
	}
	tasks, err := core.Tasks().List(ctx)
	for _, t := range tasks {
		note("task", t.ContainerID, running[t.ContainerID])
	}
	if err != nil {
		return nil, err
	}
	err = core.Snapshotter(snapshotter).Walk(ctx, func(i snapshot.Info) error {
		if i.Kind != snapshot.KindCommitted {
			note("snapshot", i.Name, known[i.Name] || views[i.Name])
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for v := range views {
		if !has["snapshot "+v] {
			odd = append(odd, "the engine has, and the core does not: snapshot "+v)
		}
	}
	for _, c := range all {
		for _, kind := range []string{"container", "task", "snapshot"} {
			if !has[kind+" "+c.ID] && (running[c.ID] || kind == "snapshot") {
				odd = append(odd, "the engine has, and the core does not: "+kind+" "+c.ID)
			}
		}
	}
	more, err := oddImages(ctx, core)
	return append(odd, more...), err
}

// resumable marks the leases that keep what an interrupted pull has fetched.
const resumable = "gantry/resumable"

// pulled begins the names of ingests that the next pull goes on with.
const pulled = "layer-"

// oddImages lists leases and ingests, of which no others are left when nothing is under
// way, and images whose target is not there.
func oddImages(ctx context.Context, core *client.Client) (odd []string, err error) {
	leases, err := core.Leases().List(ctx)
	if err != nil {
		return nil, err
	}
	for _, l := range leases {
		if l.Labels[resumable] == "" {
			odd = append(odd, "lease "+l.ID)
		}
	}
	ingests, err := core.Content().ListStatuses(ctx)
	if err != nil {
		return nil, err
	}
	for _, i := range ingests {
		if !strings.HasPrefix(i.Ref, pulled) {
			odd = append(odd, "ingest "+i.Ref)
		}
	}
	images, err := core.Images().List(ctx)
	if err != nil {
		return nil, err
	}
	for _, i := range images {
		if _, err := core.Content().Info(ctx, i.Target.Digest); err != nil {
			odd = append(odd, fmt.Sprintf("image %s: %v", i.Name, err))
		}
	}
	return odd, nil
}
