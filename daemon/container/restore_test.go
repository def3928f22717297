package container

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"

	apicontainer "gantry/api/container"
	"gantry/api/logfile"
	"gantry/api/shimwire"
	apistream "gantry/api/stream"
)

// A daemon that comes after another takes up what it left.
func TestRestore(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		policy := func(name string) func(*apicontainer.CreateOptions) {
			return func(o *apicontainer.CreateOptions) {
				o.HostConfig.RestartPolicy.Name = containertypes.RestartPolicyMode(name)
			}
		}
		start := func(name string, change func(*apicontainer.CreateOptions)) string {
			id := w.make(s, name, change)
			if err := s.Start(ctx, id, containertypes.StartOptions{}); err != nil {
				t.Fatal(err)
			}
			return id
		}
		runs, pauses, ended := start("runs", nil), start("pauses", nil), start("ended", nil)
		lost := start("lost", nil)
		again := start("again", policy("always"))
		stopped := start("stopped", policy("unless-stopped"))
		always := start("always", policy("always"))
		gone := start("gone", func(o *apicontainer.CreateOptions) { o.HostConfig.AutoRemove = true })
		fresh := w.make(s, "fresh", policy("always"))
		for _, err := range []error{
			s.Pause(ctx, pauses), s.Kill(ctx, stopped, ""), s.Kill(ctx, always, ""),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		w.shutDown(s) // the tasks go on
		w.end(ended, 7)
		w.end(again, 1)
		w.end(gone, 0)
		w.mu.Lock()
		delete(w.tasks, lost)
		delete(w.held, "task "+lost)
		w.mu.Unlock()
		stray := filepath.Join(w.dir, "containers", strings.Repeat("0", 64)) // of a creation that was cut off
		if err := os.Mkdir(stray, 0o700); err != nil {
			t.Fatal(err)
		}

		s2 := w.service()
		defer w.shutDown(s2)
		time.Sleep(time.Second)
		synctest.Wait()
		for name, want := range map[string]State{
			runs: {Status: Running}, pauses: {Status: Paused}, ended: {Status: Exited, ExitCode: 7},
			lost: {Status: Exited, ExitCode: 255}, again: {Status: Running}, stopped: {Status: Exited, ExitCode: 137},
			always: {Status: Running}, fresh: {Status: Created},
		} {
			c := s2.entry(name).snapshot()
			if c.Status != want.Status || c.ExitCode != want.ExitCode || c.Status.HasTask() != (c.Pid != 0) {
				t.Errorf("%s: %+v", c.Name, c.State)
			}
		}
		if s2.entry(gone) != nil {
			t.Error("auto-removed container is still there")
		}
		if _, err := os.Stat(stray); err == nil {
			t.Error("stray directory is still there")
		}
		if c := s2.entry(again).snapshot(); c.RestartCount != 1 {
			t.Errorf("restarts: %d", c.RestartCount)
		}
		w.end(runs, 4) // an adopted task is watched
		synctest.Wait()
		if c := s2.entry(runs).snapshot(); c.Status != Exited || c.ExitCode != 4 {
			t.Errorf("adopted: %+v", c.State)
		}
	})
}

// States of another boot are void, but what had been made durable is kept.
func TestReboot(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		down, up := w.make(s, "down", nil), w.make(s, "up", nil)
		for _, id := range []string{down, up} {
			if err := s.Start(ctx, id, containertypes.StartOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		w.end(down, 9)
		time.Sleep(2 * flushEvery) // made durable
		w.shutDown(s)
		w.mu.Lock()
		clear(w.tasks)
		w.mu.Unlock()
		st, err := openStore(w.durable, w.runtime, "another boot")
		if err != nil {
			t.Fatal(err)
		}
		in, err := st.load()
		if err != nil || len(in.all) != 2 {
			t.Fatalf("%v %v", in.all, err)
		}
		for _, c := range in.all {
			if in.fresh[c.ID] {
				t.Errorf("%s has a state of this boot", c.Name)
			}
			if c.ID == down && (c.Status != Exited || c.ExitCode != 9) {
				t.Errorf("%+v", c.State)
			}
		}
	})
}

// client is a hijacked connection that sends nothing.
type client struct {
	out, err bytes.Buffer
	closed   int
}

func (c *client) open(bool) (*apistream.Client, error) {
	r, _ := io.Pipe()
	return &apistream.Client{Stdin: r, Stdout: &c.out, Stderr: &c.err, Close: func() error { c.closed++; return r.Close() }}, nil
}

func data(text string) shimwire.Frame {
	return shimwire.Frame{Kind: shimwire.Data, Stream: logfile.Stdout, Data: []byte(text)}
}

// A client that attaches before the start sees the first byte.
func TestAttachBeforeStart(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		id := w.make(s, "web", nil)
		conn := newFakeConn()
		w.conns[id] = conn
		conn.frames <- data("first")
		conn.frames <- shimwire.Frame{Kind: shimwire.End}
		c := &client{}
		done := make(chan error, 1)
		go func() {
			done <- s.Attach(ctx, id, apicontainer.AttachOptions{Stdout: true, Stream: true, Open: c.open})
		}()
		synctest.Wait()
		if len(w.dialed) != 0 {
			t.Fatal("connected before the start")
		}
		if err := s.Start(ctx, id, containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil || c.out.String() != "first" || c.closed != 1 {
			t.Errorf("%v %q, closed %d times", err, c.out.String(), c.closed)
		}
		if h := w.dialed[0]; h.From != nil || h.Stdin || !h.Stdout {
			t.Errorf("hello %+v", h)
		}
		if got := w.told(); got != "create attach start" {
			t.Errorf("events %q", got)
		}
	})
}

// A client that waits for a start is let go by its failure, and by the removal.
func TestAttachLetGo(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		id := w.make(s, "web", nil)
		attach := func() chan error {
			done := make(chan error, 1)
			go func() {
				done <- s.Attach(ctx, id, apicontainer.AttachOptions{Stdout: true, Stream: true, Open: (&client{}).open})
			}()
			synctest.Wait()
			return done
		}
		done := attach()
		w.fail["task create"] = errBroken
		if err := s.Start(ctx, id, containertypes.StartOptions{}); err == nil {
			t.Fatal("started")
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		done = attach()
		if err := s.Remove(ctx, id, containertypes.RemoveOptions{}); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestListFilters(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		a := w.make(s, "alpha", func(o *apicontainer.CreateOptions) { o.Config.Labels = map[string]string{"x": "1"} })
		time.Sleep(time.Second)
		b := w.make(s, "beta", func(o *apicontainer.CreateOptions) { o.HostConfig.Binds = []string{"vol:/v"} })
		time.Sleep(time.Second)
		c := w.make(s, "gamma", nil)
		for _, id := range []string{b, c} {
			if err := s.Start(ctx, id, containertypes.StartOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		w.end(c, 3)
		synctest.Wait()
		tests := []struct {
			name, want string
			all        bool
			limit      int
			args       [][2]string
			err        string
		}{
			{name: "running", want: "beta"},
			{name: "all", all: true, want: "gamma beta alpha"},
			{name: "limit means all", limit: 2, want: "gamma beta"},
			{name: "name", all: true, args: [][2]string{{"name", "a$"}}, want: "gamma beta alpha"},
			{name: "names", all: true, args: [][2]string{{"name", "^/al"}, {"name", "gam"}}, want: "gamma alpha"},
			{name: "id", all: true, args: [][2]string{{"id", a[:8]}}, want: "alpha"},
			{name: "label", all: true, args: [][2]string{{"label", "x=1"}}, want: "alpha"},
			{name: "status shows the stopped", args: [][2]string{{"status", "exited"}}, want: "gamma"},
			{name: "exited", all: true, args: [][2]string{{"exited", "3"}}, want: "gamma"},
			{name: "before", all: true, args: [][2]string{{"before", "beta"}}, want: "alpha"},
			{name: "since", all: true, args: [][2]string{{"since", "beta"}}, want: "gamma"},
			{name: "volume", all: true, args: [][2]string{{"volume", "/v"}}, want: "beta"},
			{name: "network", all: true, args: [][2]string{{"network", "bridge"}}, want: "gamma beta alpha"},
			{name: "ancestor", all: true, args: [][2]string{{"ancestor", "nope"}}, want: ""},
			{name: "task", all: true, args: [][2]string{{"is-task", "true"}}, want: ""},
			{name: "bad key", args: [][2]string{{"bogus", "1"}}, err: "invalid filter 'bogus'"},
			{name: "bad status", args: [][2]string{{"status", "x"}}, err: "invalid filter 'status=x': invalid value for state (x): must be one of created, running, paused, restarting, removing, exited, dead"},
			{name: "no such", args: [][2]string{{"before", "zeta"}}, err: "No such container: zeta"},
		}
		for _, tt := range tests {
			args := filters.NewArgs()
			for _, a := range tt.args {
				args.Add(a[0], a[1])
			}
			got, err := s.List(ctx, containertypes.ListOptions{All: tt.all, Limit: tt.limit, Filters: args})
			if text(err) != tt.err {
				t.Errorf("%s: error %v", tt.name, err)
			}
			var names []string
			for _, c := range got {
				names = append(names, c.Names[0][1:])
			}
			if s := strings.Join(names, " "); err == nil && s != tt.want {
				t.Errorf("%s: %s, want %s", tt.name, s, tt.want)
			}
		}
	})
}

func TestMoves(t *testing.T) {
	all := []Status{Created, Running, Paused, Restarting, Exited, Removing, Dead}
	for from, list := range moves {
		for m, to := range list {
			if got, err := from.After(m); err != nil || got != to {
				t.Errorf("%s %s: %s, %v", from, m, got, err)
			}
		}
	}
	for _, s := range all {
		if _, err := s.After(Pause); (err == nil) != (s == Running) {
			t.Errorf("pause of %s: %v", s, err)
		}
	}
}

func TestRename(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		ctx := w.t.Context()
		id := w.make(s, "one", nil)
		other := w.make(s, "two", nil)
		for to, want := range map[string]string{
			"":    "Neither old nor new names may be empty",
			"one": "Renaming a container with the same name as its current name",
			"two": `Error when allocating new name: Conflict. The container name "/two" is already in use by container "` + other + `". You have to remove (or rename) that container to be able to reuse that name.`,
		} {
			if err := s.Rename(ctx, "one", to); text(err) != want {
				t.Errorf("%q: %v", to, err)
			}
		}
		if err := s.Rename(ctx, "one", "/three"); err != nil {
			t.Fatal(err)
		}
		if e, err := s.find("three"); err != nil || e.id != id {
			t.Error(err)
		}
		if err := s.Rename(ctx, "two", "one"); err != nil {
			t.Errorf("the old name is still taken: %v", err)
		}
	})
}
