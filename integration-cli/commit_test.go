package integrationcli

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	imagetypes "github.com/docker/docker/api/types/image"

	"gantry/internal/testutil/engine"
)

// TestCommit makes images of containers that run, are paused and are down, and runs them.
func TestCommit(t *testing.T) {
	t.Parallel()
	e := start(t)
	since := time.Now().Add(-time.Second)
	e.Must("run", "-d", "--name", "cc", "-e", "A=1", "-e", "B=2", "-l", "own=yes", "-p", "80", "-v", "/vol", "-w", "/tmp", "-u", "1000",
		"--stop-signal", "USR1", "--health-cmd", "true", "--health-retries", "7", image, "sh", "-c", "echo made >/tmp/f; rm -f /no; sleep 1000")
	eventually(t, "the file is there", func() bool { return e.Docker("exec", "cc", "cat", "/tmp/f").Stdout == "made\n" })
	e.Must("exec", "-u", "0", "cc", "sh", "-c", "rm -r /www; touch /vol/unseen; ln /tmp/f /tmp/g; chmod 4711 /bin/su; setfattr -n user.x -v y /tmp/f || true")

	id := e.Must("commit", "-a", "Me <m@e>", "-m", "a message", "-c", "ENV B=3 C=$A", "-c", `CMD ["cat","/tmp/f"]`, "-c", "EXPOSE 81/udp",
		"-c", "LABEL more=x", "-c", "USER root", "-c", "WORKDIR sub", "-c", "VOLUME /more", "-c", "ONBUILD RUN true", "-c", "STOPSIGNAL HUP",
		"-c", "HEALTHCHECK --interval=5s CMD false", "cc", "made:one")
	if got := e.Must("inspect", "-f", "{{.State.Status}}", "cc"); got != "running" {
		t.Errorf("after the commit the container is %s", got)
	}
	in := imageOf(t, e, "made:one")
	if in.ID != id || in.Author != "Me <m@e>" || in.Comment != "a message" || !strings.HasPrefix(in.Parent, "sha256:") {
		t.Errorf("image %+v", in)
	}
	config, _ := json.Marshal(in.Config)
	for _, want := range []string{
		`"User":"root"`, `"80/tcp":{}`, `"81/udp":{}`, `"A=1","B=3",`, `"C=1"`, `"Cmd":["cat","/tmp/f"]`, `"/vol":{}`, `"/more":{}`,
		`"WorkingDir":"/tmp/sub"`, `"OnBuild":["RUN true"]`, `"own":"yes"`, `"more":"x"`, `"StopSignal":"HUP"`,
		`"Test":["CMD-SHELL","false"]`, `"Retries":7`, `"Interval":5000000000`,
	} {
		if !strings.Contains(string(config), want) {
			t.Errorf("no %s in %s", want, config)
		}
	}
	if got := e.Must("history", "--no-trunc", "--format", "{{.CreatedBy}}|{{.Comment}}", "made:one"); !strings.HasPrefix(got, "sh -c echo made >/tmp/f; rm -f /no; sleep 1000|a message\n") {
		t.Errorf("history %q", got)
	}
	if got := e.Must("run", "--rm", "made:one"); got != "made" {
		t.Errorf("the image runs %q", got)
	}
	if got := e.Must("run", "--rm", "made:one", "sh", "-c", "ls -d /www /vol/unseen 2>/dev/null; stat -c '%a %h' /bin/su /tmp/f; pwd"); got != "4711 1\n644 2\n/tmp/sub" {
		t.Errorf("files of the image: %q", got)
	}

	e.Must("pause", "cc")
	paused := e.Must("commit", "cc")
	if got := e.Must("inspect", "-f", "{{.State.Status}}", "cc"); got != "paused" {
		t.Errorf("after the commit the paused container is %s", got)
	}
	e.Must("unpause", "cc")
	running := e.Must("commit", "--pause=false", "cc")
	e.Must("kill", "cc")
	down := e.Must("commit", "cc")
	layer := func(id string) string { in := imageOf(t, e, id); return in.RootFS.Layers[len(in.RootFS.Layers)-1] }
	if !engine.OnContainerd() && (layer(paused) != layer(id) || layer(running) != layer(id) || layer(down) != layer(id)) {
		t.Error("the same files have given different layers")
	}

	e.Must("create", "--name", "fresh", image, "true")
	if in, base := imageOf(t, e, e.Must("commit", "fresh")), imageOf(t, e, image); len(in.RootFS.Layers) != len(base.RootFS.Layers) {
		t.Errorf("a container that has changed nothing gives a layer: %v", in.RootFS.Layers)
	}
	// An image of an image of a container.
	e.Must("run", "--name", "two", "made:one", "sh", "-c", "echo more >>/tmp/g; rm /tmp/f")
	e.Must("commit", "-c", "CMD cat /tmp/g", "two", "made:two")
	if got := e.Must("run", "--rm", "made:two"); got != "made\nmore" {
		t.Errorf("the second image runs %q", got)
	}

	try(t, e, []row{
		{name: "no container", args: []string{"commit", "nope"}, code: 1, err: "Error response from daemon: No such container: nope"},
		{name: "instruction that is none", args: []string{"commit", "-c", "RUN true", "cc"}, code: 1, err: "Error response from daemon: RUN is not a valid change command"},
		{name: "bad name", args: []string{"commit", "cc", "UPPER"}, code: 1, err: "invalid reference format: repository name (library/UPPER) must be lowercase"},
	})
	e.Must("start", "cc")
	if r := e.Docker("commit", "-c", "EXPOSE x/y", "cc"); r.Code == 0 || e.Must("inspect", "-f", "{{.State.Status}}", "cc") != "running" {
		t.Errorf("a commit that fails: %+v", r)
	}

	events := e.Must("events", "--since", since.Format(time.RFC3339), "--until", time.Now().Add(time.Second).Format(time.RFC3339),
		"--format", `{{.Type}} {{.Action}} {{index .Actor.Attributes "imageRef"}}{{index .Actor.Attributes "comment"}}`)
	for _, want := range []string{"container pause ", "container unpause ", "container commit made:onea message", "image create ", "image tag "} {
		if !strings.Contains(events, want+"\n") && !strings.HasSuffix(events, want) {
			t.Errorf("no event %q in\n%s", want, events)
		}
	}
}

func imageOf(t *testing.T, e *engine.Engine, ref string) (in imagetypes.InspectResponse) {
	t.Helper()
	_, text, err := ask(e, "GET", "/images/"+ref+"/json", nil)
	if err != nil || json.Unmarshal([]byte(text), &in) != nil || len(in.RootFS.Layers) == 0 {
		t.Fatalf("inspect image %s: %v %s", ref, err, text)
	}
	return in
}

// TestCommitCutOff: whoever leaves, the container goes on.
func TestCommitCutOff(t *testing.T) {
	t.Parallel()
	e := start(t)
	e.Must("run", "-d", "--name", "cc", image, "sh", "-c", "dd if=/dev/urandom of=/big bs=1M count=100 2>/dev/null; touch /ready; sleep 1000")
	eventually(t, "the file is there", func() bool { return e.Docker("exec", "cc", "test", "-e", "/ready").Code == 0 })
	status := func() string { return e.Docker("inspect", "-f", "{{.State.Status}}", "cc").Stdout }

	ctx, leave := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://gantry/v1.51/commit?container=cc", nil)
		if r, err := e.HTTP().Do(req); err == nil {
			r.Body.Close()
		}
	}()
	eventually(t, "the commit pauses the container", func() bool { return status() == "paused\n" })
	leave()
	<-left
	eventually(t, "the container goes on without the client", func() bool { return status() == "running\n" })

	gone := make(chan struct{})
	go func() {
		defer close(gone)
		ask(e, "POST", "/commit?container=cc", nil) //nolint:errcheck // it is cut off
	}()
	eventually(t, "the commit pauses the container", func() bool { return status() == "paused\n" })
	e.Kill()
	<-gone
	e.Launch()
	if got := status(); got != "running\n" {
		t.Errorf("after the engine's death the container is %s", got)
	}
	if r := e.Docker("exec", "cc", "echo", "alive"); r.Stdout != "alive\n" {
		t.Errorf("the container does not work: %+v", r)
	}
	e.Must("rm", "-f", "cc")
	e.Place().Agree(t)
}
