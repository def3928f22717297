package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/oci"
	"github.com/containerd/errdefs"
)

// pod is the life of a sandbox with two containers of the image.
func pod(ctx context.Context, c *containerd.Client, img containerd.Image, o options) error {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	topics, broken := c.Subscribe(watching, "namespace=="+o.namespace+`,topic~=^/sandboxes/`)
	sandbox, err := c.NewSandbox(ctx, o.id, containerd.WithSandboxRuntime(o.runtime, nil), containerd.WithSandboxSpec(&oci.Spec{Version: "1.2.0"}),
		containerd.WithSandboxLabels(map[string]string{"by": "coreclient"}))
	if err != nil {
		return fmt.Errorf("create sandbox: %w", err)
	}
	say("sandbox", sandbox.ID())
	if err := sandbox.Start(ctx); err != nil {
		return fmt.Errorf("start sandbox: %w", err)
	}
	if sandbox, err = c.LoadSandbox(ctx, o.id); err != nil {
		return fmt.Errorf("load sandbox: %w", err)
	}
	labels, err := sandbox.Labels(ctx)
	if err != nil {
		return fmt.Errorf("labels: %w", err)
	}
	say("labels", labels)
	exited, err := sandbox.Wait(ctx)
	if err != nil {
		return fmt.Errorf("wait for sandbox: %w", err)
	}
	for _, id := range []string{o.id + "-a", o.id + "-b"} {
		if err := member(ctx, c, sandbox, img, id, o); err != nil {
			return fmt.Errorf("container %s: %w", id, err)
		}
	}
	if err := sandbox.Stop(ctx); err != nil {
		return fmt.Errorf("stop sandbox: %w", err)
	}
	status := <-exited
	say("sandbox exit", fmt.Sprint(status.ExitCode(), " ", status.Error()))
	if err := sandbox.Shutdown(ctx); err != nil {
		return fmt.Errorf("shut down sandbox: %w", err)
	}
	if _, err := c.LoadSandbox(ctx, o.id); !errdefs.IsNotFound(err) {
		return fmt.Errorf("sandbox after its shutdown: %v", err)
	}
	for _, want := range []string{"create", "start", "exit"} {
		select {
		case e := <-topics:
			if e.Topic != "/sandboxes/"+want {
				return fmt.Errorf("event %s, want %s", e.Topic, want)
			}
		case err := <-broken:
			return fmt.Errorf("events: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("no event %s: %w", want, ctx.Err())
		}
	}
	say("sandbox removed", o.id)
	return nil
}

// member runs one container in a sandbox.
func member(ctx context.Context, client *containerd.Client, sandbox containerd.Sandbox, img containerd.Image, id string, o options) (err error) {
	spec := []oci.SpecOpts{oci.WithImageConfig(img), oci.WithProcessArgs("sleep", "1000")}
	if o.cgroup != "" {
		spec = append(spec, oci.WithCgroup(o.cgroup+"-"+id))
	}
	c, err := sandbox.NewContainer(ctx, id, containerd.WithSnapshotter(o.snapshotter), containerd.WithNewSnapshot(id, img),
		containerd.WithRuntime(o.runtime, nil), containerd.WithNewSpec(spec...))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Delete(context.WithoutCancel(ctx), containerd.WithSnapshotCleanup)) }()
	var out bytes.Buffer
	task, err := c.NewTask(ctx, cio.NewCreator(cio.WithStreams(strings.NewReader(""), &out, &out)))
	if err != nil {
		return err
	}
	exited, err := task.Wait(ctx)
	if err != nil {
		return err
	}
	if err := task.Start(ctx); err != nil {
		return err
	}
	if err := execute(ctx, c, task); err != nil {
		return err
	}
	if err := together(ctx, client, sandbox); err != nil {
		return err
	}
	if err := task.Kill(ctx, syscall.SIGKILL); err != nil {
		return err
	}
	status := <-exited
	say("member", fmt.Sprint(id, " ", status.ExitCode()))
	_, err = task.Delete(ctx)
	return err
}

// together tells of the metrics of a sandbox, with a container in it.
func together(ctx context.Context, c *containerd.Client, of containerd.Sandbox) error {
	metrics, err := c.SandboxController(of.Metadata().Sandboxer).Metrics(ctx, of.ID())
	if err != nil {
		return fmt.Errorf("metrics of the sandbox: %w", err)
	}
	counted, err := counts(metrics)
	if err != nil {
		return err
	}
	say("sandbox metrics", fmt.Sprint(metrics.Data.GetTypeUrl(), " ", counted))
	return nil
}
