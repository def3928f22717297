// Command coreclient does with containerd's Go client what its users' programs do: it
// pulls an image, makes a container of it, runs it, executes a process in it and takes
// everything away again. Each step's result is a line "STEP: RESULT" on its output; the
// first that goes wrong ends it with 1.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"syscall"
	"time"

	eventsapi "github.com/containerd/containerd/api/events"
	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/events"
	"github.com/containerd/containerd/v2/core/remotes/docker"
	"github.com/containerd/containerd/v2/core/transfer/image"
	"github.com/containerd/containerd/v2/core/transfer/registry"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/containerd/typeurl/v2"
	specs "github.com/opencontainers/runtime-spec/specs-go"
)

type options struct {
	address, namespace, ref, id, snapshotter, runtime, cgroup string
	transfer, events, pod                                     bool
}

func main() {
	var o options
	flag.StringVar(&o.address, "address", "/run/containerd/containerd.sock", "the core's socket")
	flag.StringVar(&o.namespace, "namespace", "default", "namespace of all that is made")
	flag.StringVar(&o.ref, "ref", "", "image, in a registry that speaks plain HTTP")
	flag.StringVar(&o.id, "id", "coreclient", "name of the container")
	flag.StringVar(&o.snapshotter, "snapshotter", "", "the core's default when empty")
	flag.StringVar(&o.runtime, "runtime", "", "the client's default when empty")
	flag.StringVar(&o.cgroup, "cgroup", "", "the container's cgroup path")
	flag.BoolVar(&o.transfer, "transfer", false, "pull by the transfer service")
	flag.BoolVar(&o.events, "events", false, "tell which events came")
	flag.BoolVar(&o.pod, "pod", false, "make a sandbox, of a runtime that serves them, and containers in it")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "coreclient:", err)
		os.Exit(1)
	}
}

func say(step string, result any) { fmt.Printf("%s: %v\n", step, result) }

func run(ctx context.Context, o options) (err error) {
	ctx = namespaces.WithNamespace(ctx, o.namespace)
	var clientOptions []containerd.Opt
	if o.runtime != "" {
		clientOptions = append(clientOptions, containerd.WithDefaultRuntime(o.runtime))
	}
	c, err := containerd.New(o.address, clientOptions...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	v, err := c.Version(ctx)
	if err != nil {
		return fmt.Errorf("version: %w", err)
	}
	say("version", v.Version)

	ctx, done, err := c.WithLease(ctx)
	if err != nil {
		return fmt.Errorf("lease: %w", err)
	}
	defer func() { err = errors.Join(err, done(context.WithoutCancel(ctx))) }()
	img, err := pull(ctx, c, o)
	if err != nil {
		return fmt.Errorf("pull %s: %w", o.ref, err)
	}
	size, err := img.Size(ctx)
	if err != nil {
		return fmt.Errorf("size: %w", err)
	}
	say("pulled", fmt.Sprint(img.Target().Digest, " ", size))
	do := work
	if o.pod {
		do = pod
	}
	if err := do(ctx, c, img, o); err != nil {
		return err
	}
	if err := c.ImageService().Delete(ctx, o.ref); err != nil {
		return fmt.Errorf("delete image: %w", err)
	}
	if _, err := c.GetImage(ctx, o.ref); !errdefs.IsNotFound(err) {
		return fmt.Errorf("image after its removal: %v", err)
	}
	say("image removed", o.ref)
	return nil
}

func pull(ctx context.Context, c *containerd.Client, o options) (containerd.Image, error) {
	if o.transfer {
		source, err := registry.NewOCIRegistry(ctx, o.ref, registry.WithDefaultScheme("http"))
		if err != nil {
			return nil, err
		}
		store := image.NewStore(o.ref, image.WithUnpack(platforms.DefaultSpec(), o.snapshotter), image.WithPlatforms(platforms.DefaultSpec()))
		if err := c.Transfer(ctx, source, store); err != nil {
			return nil, err
		}
		return c.GetImage(ctx, o.ref)
	}
	plain := docker.ConfigureDefaultRegistries(docker.WithPlainHTTP(docker.MatchAllHosts))
	return c.Pull(ctx, o.ref, containerd.WithPullUnpack, containerd.WithPullSnapshotter(o.snapshotter),
		containerd.WithResolver(docker.NewResolver(docker.ResolverOptions{Hosts: plain})))
}

// work is the life of one container of the image.
func work(ctx context.Context, c *containerd.Client, img containerd.Image, o options) (err error) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	topics, broken := c.Subscribe(watching, "namespace=="+o.namespace+`,topic~=^/tasks/`)

	args := oci.WithProcessArgs("sh", "-c", `read word; echo "got $word"; exec sleep 1000`)
	spec := []oci.SpecOpts{oci.WithImageConfig(img), args}
	if o.cgroup != "" {
		spec = append(spec, oci.WithCgroup(o.cgroup))
	}
	made, err := c.NewContainer(ctx, o.id, containerd.WithSnapshotter(o.snapshotter), containerd.WithNewSnapshot(o.id, img),
		containerd.WithNewSpec(spec...), containerd.WithContainerLabels(map[string]string{"by": "coreclient"}))
	if err != nil {
		return fmt.Errorf("create container: %w", err)
	}
	defer func() {
		if e := made.Delete(context.WithoutCancel(ctx), containerd.WithSnapshotCleanup); e != nil {
			err = errors.Join(err, fmt.Errorf("delete container: %w", e))
			return
		}
		say("container removed", o.id)
	}()
	say("created", made.ID())

	var out, errs bytes.Buffer
	task, err := made.NewTask(ctx, cio.NewCreator(cio.WithStreams(strings.NewReader("hello\n"), &out, &errs)))
	if err != nil {
		return fmt.Errorf("create task: %w", err)
	}
	exited, err := task.Wait(ctx)
	if err != nil {
		return fmt.Errorf("wait: %w", err)
	}
	if err := task.Start(ctx); err != nil {
		return fmt.Errorf("start: %w", err)
	}
	say("started", task.Pid() > 0)
	if err := execute(ctx, made, task); err != nil {
		return err
	}
	pids, err := task.Pids(ctx)
	if err != nil || len(pids) == 0 {
		return fmt.Errorf("pids: %v, %w", pids, err)
	}
	metrics, err := task.Metrics(ctx)
	if err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	say("metrics", metrics.Data.GetTypeUrl())
	if err := update(ctx, task); err != nil {
		return err
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
		want containerd.ProcessStatus
	}{{"pause", task.Pause, containerd.Paused}, {"resume", task.Resume, containerd.Running}} {
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		if st, err := task.Status(ctx); err != nil || st.Status != step.want {
			return fmt.Errorf("after %s: %v, %w", step.name, st.Status, err)
		}
		say(step.name, step.want)
	}
	if err := task.Kill(ctx, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill: %w", err)
	}
	status := <-exited
	say("exit code", status.ExitCode())
	task.IO().Wait() // its deletion would cut off what is not read yet
	if _, err := task.Delete(ctx); err != nil {
		return fmt.Errorf("delete task: %w", err)
	}
	say("output", strings.TrimSpace(out.String()+errs.String()))
	if !o.events {
		return nil
	}
	return seen(topics, broken)
}

func execute(ctx context.Context, c containerd.Container, task containerd.Task) error {
	spec, err := c.Spec(ctx)
	if err != nil {
		return fmt.Errorf("spec: %w", err)
	}
	process := *spec.Process
	process.Args, process.User = []string{"sh", "-c", "echo from exec; exit 7"}, specs.User{}
	var out, errs bytes.Buffer
	p, err := task.Exec(ctx, "probe", &process, cio.NewCreator(cio.WithStreams(nil, &out, &errs)))
	if err != nil {
		return fmt.Errorf("exec: %w", err)
	}
	exited, err := p.Wait(ctx)
	if err != nil {
		return fmt.Errorf("wait for exec: %w", err)
	}
	if err := p.Start(ctx); err != nil {
		return fmt.Errorf("start exec: %w", err)
	}
	status := <-exited
	p.IO().Wait()
	if _, err := p.Delete(ctx); err != nil {
		return fmt.Errorf("delete exec: %w", err)
	}
	say("exec", fmt.Sprint(strings.TrimSpace(out.String()), errs.String(), " ", status.ExitCode()))
	return nil
}

// seen waits for the event that ends a task's life; those before it are told in order.
func seen(all <-chan *events.Envelope, broken <-chan error) error {
	var topics []string
	for {
		select {
		case e := <-all:
			topics = append(topics, strings.TrimPrefix(e.Topic, "/tasks/"))
			v, err := typeurl.UnmarshalAny(e.Event)
			if err != nil {
				return fmt.Errorf("event %s: %w", e.Topic, err)
			}
			if d, ok := v.(*eventsapi.TaskExit); ok && d.ID == d.ContainerID {
				say("events", strings.Join(topics, " "))
				return nil
			}
		case err := <-broken:
			return fmt.Errorf("events: %w", err)
		case <-time.After(10 * time.Second):
			return fmt.Errorf("no event of the task's exit after %v", topics)
		}
	}
}
