package metadata_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/libctr/content"
	"gantry/libctr/content/contenttest"
	corecontent "gantry/libctr/core/content"
	"gantry/libctr/core/image"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/metadata"
	"gantry/libctr/metadata/metadatatest"
	"gantry/libctr/snapshot/overlay"
)

// request asks a worker for one thing; answer is what it says.
type (
	request struct {
		Batch   []op `json:",omitempty"`
		Advance time.Duration
		Collect bool
	}
	answer struct {
		Outcomes []string
		There    map[string]state // after Collect: every record
		Backend  []string         // and what the backends have against the records
		Err      string
	}
)

const workerVariable = "GANTRY_MODEL_WORKER"

// TestMain is also the worker: a process with a database, that can be killed.
func TestMain(m *testing.M) {
	if dir := os.Getenv(workerVariable); dir != "" {
		if err := serve(dir, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// worker is the database under test, in its process.
type worker struct {
	*metadata.DB
	blobs  *content.Store
	snaps  *overlay.Snapshotter
	root   string
	offset *atomic.Int64 // of its clock
}

func serve(dir string, in io.Reader, out io.Writer) error {
	w := worker{root: dir, offset: new(atomic.Int64)}
	var err error
	if w.blobs, err = content.New(filepath.Join(dir, "content")); err != nil {
		return err
	}
	if w.snaps, err = overlay.New(filepath.Join(dir, "overlayfs"), overlay.Options{NoSync: true}); err != nil {
		return err
	}
	defer w.snaps.Close()
	w.DB, err = metadata.Open(filepath.Join(dir, "meta.db"), metadata.Options{
		Content: w.blobs, Snapshotters: map[string]snapshot.Snapshotter{"overlayfs": w.snaps},
		Boot: filepath.Join(dir, "boot.db"),
		Now:  func() time.Time { return time.Now().Add(time.Duration(w.offset.Load())) },
	})
	if err != nil {
		return err
	}
	defer w.Close()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// Collections all the time, beside those that clients ask for.
	go w.Run(ctx, metadata.Schedule{PauseThreshold: 0.5, MutationThreshold: 3, DeletionThreshold: 1})
	lines, answers := bufio.NewScanner(in), json.NewEncoder(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return err
		}
		if err := answers.Encode(w.answer(ctx, r)); err != nil {
			return err
		}
	}
	return lines.Err()
}

func (w worker) answer(ctx context.Context, r request) (a answer) {
	w.offset.Add(int64(r.Advance))
	a.Outcomes = make([]string, len(r.Batch))
	var clients sync.WaitGroup
	for i, o := range r.Batch {
		clients.Go(func() { a.Outcomes[i] = named(w.do(ctx, o)) })
	}
	clients.Wait()
	if r.Collect {
		_, err := w.Collect(ctx)
		a.There = map[string]state{}
		err = errors.Join(err, w.dump(ctx, a.There))
		var berr error
		a.Backend, berr = w.backends(ctx, a.There)
		if err = errors.Join(err, berr); err != nil {
			a.Err = err.Error()
		}
	}
	return a
}

func named(err error) string {
	switch {
	case err == nil:
		return done
	case errdefs.IsAlreadyExists(err):
		return exists
	case errdefs.IsNotFound(err):
		return missing
	case errdefs.IsFailedPrecondition(err):
		return refused
	}
	return err.Error()
}

// do makes one call.
func (w worker) do(ctx context.Context, o op) error {
	ctx = reqctx.WithNamespace(ctx, o.NS)
	if o.Lease != "" {
		ctx = lease.With(ctx, o.Lease)
	}
	sn := w.Snapshotter("overlayfs")
	switch o.Do {
	case "blob":
		return w.blob(ctx, o)
	case "delete":
		return w.Content().Delete(ctx, digest.Digest(o.Key))
	case "image":
		_, err := w.Images().Create(ctx, image.Image{Name: o.Key, Target: target(o.Parent), Labels: o.Labels})
		return err
	case "retarget":
		_, err := w.Images().Update(ctx, image.Image{Name: o.Key, Target: target(o.Parent)}, "target")
		return err
	case "untag":
		return w.Images().Delete(ctx, o.Key, o.Sync, nil)
	case "lease":
		_, err := w.Leases().Create(ctx, o.Key, o.Labels)
		return err
	case "end":
		return w.Leases().Delete(ctx, o.Key, o.Sync)
	case "hold":
		return w.Leases().AddResource(ctx, o.Key, resource(o))
	case "free":
		return w.Leases().DeleteResource(ctx, o.Key, resource(o))
	case "prepare":
		_, err := sn.Prepare(ctx, o.Key, o.Parent, o.Labels)
		return err
	case "commit":
		return sn.Commit(ctx, o.Parent, o.Key, o.Labels)
	case "remove":
		return sn.Remove(ctx, o.Key)
	case "run":
		c := metadatatest.Container(o.Key)
		c.Labels, c.SnapshotKey = o.Labels, o.Parent
		_, err := w.Containers().Create(ctx, c)
		return err
	case "rm":
		return w.Containers().Delete(ctx, o.Key)
	case "ingest":
		return w.ingest(ctx, o)
	case "label":
		if o.Kind == "image" {
			_, err := w.Images().Update(ctx, image.Image{Name: o.Key, Labels: o.Labels}, "labels")
			return err
		}
		_, err := w.Content().Update(ctx, corecontent.Info{Digest: digest.Digest(o.Key), Labels: o.Labels}, "labels")
		return err
	}
	return fmt.Errorf("no such call: %s", o.Do)
}

func target(d string) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.Digest(d), Size: 16}
}

func resource(o op) lease.Resource {
	types := map[string]string{"content": "content", "image": "images", "snapshot": "snapshots/overlayfs"}
	return lease.Resource{Type: types[o.Kind], ID: o.Parent}
}

// blob writes one, announced or not.
func (w worker) blob(ctx context.Context, o op) error {
	data, desc := contenttest.Blob(o.Seed, 16)
	opts := corecontent.WriterOptions{Ref: "blob " + o.Key}
	if o.Sync {
		opts.Desc = ocispec.Descriptor{Digest: desc.Digest, Size: desc.Size}
	}
	wr, err := w.Content().Writer(ctx, opts)
	if err != nil {
		return err
	}
	defer wr.Close()
	if err := wr.Truncate(0); err != nil { // what an earlier process has left
		return err
	}
	if _, err := wr.Write(data); err != nil {
		return err
	}
	return wr.Commit(ctx, 16, desc.Digest, o.Labels)
}

func (w worker) ingest(ctx context.Context, o op) error {
	wr, err := w.Content().Writer(ctx, corecontent.WriterOptions{Ref: o.Key})
	if err != nil {
		return err
	}
	_, err = wr.Write([]byte("x"))
	return errors.Join(err, wr.Close())
}

// dump reads every record by the stores' own lists.
func (w worker) dump(ctx context.Context, there map[string]state) (err error) {
	for _, ns := range namespaces {
		ctx := reqctx.WithNamespace(ctx, ns)
		err = errors.Join(err, w.Content().Walk(ctx, func(i corecontent.Info) error {
			there[id(ns, "content", i.Digest.String())] = state{Labels: i.Labels}
			return nil
		}))
		err = errors.Join(err, w.Snapshotter("overlayfs").Walk(ctx, func(i snapshot.Info) error {
			there[id(ns, "snapshot", i.Name)] = state{Labels: i.Labels, Parent: i.Parent, Active: i.Kind == snapshot.KindActive}
			return nil
		}))
		images, ierr := w.Images().List(ctx)
		for _, i := range images {
			there[id(ns, "image", i.Name)] = state{Labels: i.Labels, Target: i.Target.Digest.String()}
		}
		containers, cerr := w.Containers().List(ctx)
		for _, c := range containers {
			there[id(ns, "container", c.ID)] = state{Labels: c.Labels, Snapshot: c.SnapshotKey}
		}
		err = errors.Join(err, ierr, cerr, w.dumpLeases(ctx, ns, there))
	}
	for name, s := range there {
		if len(s.Labels) == 0 {
			s.Labels = nil
			there[name] = s
		}
	}
	return err
}

func (w worker) dumpLeases(ctx context.Context, ns string, there map[string]state) error {
	statuses, err := w.Content().ListStatuses(ctx)
	if err != nil {
		return err
	}
	for _, st := range statuses {
		if !strings.HasPrefix(st.Ref, "blob ") {
			there[id(ns, "ingest", st.Ref)] = state{}
		}
	}
	leases, err := w.Leases().List(ctx)
	kinds := map[string]string{"content": "content", "images": "image", "snapshots/overlayfs": "snapshot", "ingests": "ingest"}
	for _, l := range leases {
		s := state{Labels: l.Labels}
		resources, rerr := w.Leases().ListResources(ctx, l.ID)
		err = errors.Join(err, rerr)
		for _, r := range resources {
			if !strings.HasPrefix(r.ID, "blob ") { // a call's own, cut off
				s = s.with(kinds[r.Type]+" "+r.ID, "")
			}
		}
		there[id(ns, "lease", l.ID)] = s
	}
	return err
}

// backends lists what is in a backend without a record, or has one and is not there.
func (w worker) backends(ctx context.Context, there map[string]state) (wrong []string, err error) {
	blobs, snapshots := map[string]bool{}, 0
	for name := range there {
		switch _, kind, key := split(name); kind {
		case "content":
			blobs[key] = true
		case "snapshot":
			snapshots++
		}
	}
	err = w.blobs.Walk(ctx, func(i corecontent.Info) error {
		if !blobs[i.Digest.String()] {
			wrong = append(wrong, "blob without a record: "+i.Digest.String())
		}
		delete(blobs, i.Digest.String())
		return nil
	})
	for d := range maps.Keys(blobs) {
		wrong = append(wrong, "record without its blob: "+d)
	}
	n := 0
	err = errors.Join(err, w.snaps.Walk(ctx, func(snapshot.Info) error { n++; return nil }))
	if n != snapshots {
		wrong = append(wrong, fmt.Sprintf("%d snapshots in the backend, %d records", n, snapshots))
	}
	if dirs, derr := os.ReadDir(filepath.Join(w.root, "overlayfs", "snapshots")); derr != nil || len(dirs) != n {
		wrong = append(wrong, fmt.Sprintf("%d directories of snapshots, %d snapshots, %v", len(dirs), n, derr))
	}
	return wrong, err
}

// process is a worker from outside.
type process struct {
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines *bufio.Reader
}

func spawn(t *testing.T, dir string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(os.Args[0])}
	p.cmd.Env = append(os.Environ(), workerVariable+"="+dir)
	p.cmd.Stderr = os.Stderr
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		p.in, err = p.cmd.StdinPipe()
	}
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	p.lines = bufio.NewReader(out)
	return p
}

func (p *process) send(r request) error { return json.NewEncoder(p.in).Encode(r) }

func (p *process) receive() (a answer, err error) {
	line, err := p.lines.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &a)
	}
	return a, err
}

// kill ends it as a crash does.
func (p *process) kill() {
	p.cmd.Process.Kill() //nolint:errcheck // it may have ended
	p.in.Close()
	p.cmd.Wait() //nolint:errcheck // by the signal
}
