package integrationcli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"

	"gantry/internal/testutil/engine"
)

func stamp(t time.Time) string { return fmt.Sprintf("%d.%09d", t.Unix(), t.Nanosecond()) }

// TestEventStory: what is told of a life with everything in it, in dockerd's order.
func TestEventStory(t *testing.T) {
	t.Parallel()
	e := start(t)
	begin := time.Now()
	dir := t.TempDir()
	for _, step := range []struct {
		args []string
		want string
	}{
		{[]string{"volume", "create", "vol"}, "volume create"},
		{[]string{"create", "--name", "web", "-v", "vol:/v", "-l", "tier=front", image, "sleep", "1000"}, "container create"},
		{[]string{"start", "web"}, "network connect, volume mount, container start"},
		{[]string{"exec", "web", "true"}, "container exec_create: true , container exec_start: true , container exec_die"},
		{[]string{"pause", "web"}, "container pause"},
		{[]string{"unpause", "web"}, "container unpause"},
		{[]string{"rename", "web", "shop"}, "container rename"},
		{[]string{"update", "--memory", "64m", "--memory-swap", "128m", "shop"}, "container update"},
		{[]string{"top", "shop"}, "container top"},
		{[]string{"kill", "-s", "CONT", "shop"}, "container kill"},
		{[]string{"stop", "-t", "0", "shop"}, "container kill, container kill, network disconnect, volume unmount, container die, container stop"},
		{[]string{"export", "-o", dir + "/export.tar", "shop"}, "container export"},
		{[]string{"cp", "shop:/bin/busybox", dir + "/b"}, "volume mount, container archive-path, volume unmount"},
		{[]string{"rm", "shop"}, "container destroy"},
		{[]string{"volume", "rm", "vol"}, "volume destroy"},
		{[]string{"tag", image, "other:1"}, "image tag"},
		{[]string{"save", "-o", dir + "/save.tar", "other:1"}, "image save"},
		{[]string{"rmi", "other:1"}, "image untag"},
		{[]string{"system", "prune", "-f", "--volumes"}, "container prune, network prune, volume prune, image prune"},
	} {
		since := time.Now()
		e.Must(step.args...)
		got := strings.Join(toldNow(t, e, since), ", ")
		if got != step.want {
			t.Errorf("%v:\n got %s\nwant %s", step.args, got, step.want)
		}
	}
	t.Run("filters", func(t *testing.T) {
		for _, row := range []struct {
			filters []string
			want    string
		}{
			{[]string{"container=web", "event=start"}, "start"},
			{[]string{"container=shop", "event=die", "event=stop"}, "die stop"},
			{[]string{"container=nobody"}, ""},
			{[]string{"type=volume", "volume=vol", "event=create", "event=destroy"}, "create destroy"},
			{[]string{"type=volume", "container=shop"}, ""},
			{[]string{"type=network", "network=bridge"}, "connect disconnect"},
			{[]string{"network=none"}, ""},
			{[]string{"image=" + image, "event=create"}, "create"},
			{[]string{"image=other:1", "type=image"}, "tag untag"},
			{[]string{"label=tier=front", "event=start"}, "start"},
			{[]string{"label=tier=back"}, ""},
			{[]string{"label=tier", "label=none"}, ""},
			{[]string{"event=exec_create"}, "exec_create: true "},
			{[]string{"event=exec"}, ""},
			{[]string{"scope=swarm"}, ""},
			{[]string{"scope=local", "event=pause"}, "pause"},
			{[]string{"daemon=" + e.Must("info", "-f", "{{.ID}}")}, ""},
			{[]string{"type=daemon", "type=plugin", "type=node", "type=service", "type=secret", "type=config", "type=builder"}, ""},
		} {
			f := map[string][]string{}
			for _, one := range row.filters {
				k, v, _ := strings.Cut(one, "=")
				f[k] = append(f[k], v)
			}
			raw, _ := json.Marshal(f)
			var got []string
			for _, m := range feed(t, e, "v1.51", url.Values{"since": {stamp(begin)}, "until": {stamp(time.Now())}, "filters": {string(raw)}}) {
				got = append(got, string(m.Action))
			}
			if got := strings.Join(got, " "); got != row.want {
				t.Errorf("%v: %q, want %q", row.filters, got, row.want)
			}
		}
		if got := e.Must("events", "--since", stamp(begin), "--until", "-1s", "--filter", "container=shop", "--filter", "event=die", "--filter", "event=stop", "--format", "{{.Action}}"); got != "die\nstop" {
			t.Errorf("by the command line: %q", got)
		}
		if r := e.Docker("events", "--filter", "colour=red"); r.Code == 0 || !strings.Contains(r.Stderr, "invalid filter 'colour'") {
			t.Errorf("an unknown filter: %d %s", r.Code, r.Stderr)
		}
	})
}

// toldNow are the types and actions since a time, without waiting.
func toldNow(t *testing.T, e *engine.Engine, since time.Time) (out []string) {
	t.Helper()
	for _, m := range feed(t, e, "v1.51", url.Values{"since": {stamp(since)}, "until": {stamp(time.Now())}}) {
		out = append(out, fmt.Sprint(m.Type, " ", m.Action))
	}
	return out
}

// feed reads GET /events to its end.
func feed(t *testing.T, e *engine.Engine, version string, q url.Values) (out []events.Message) {
	t.Helper()
	resp, err := e.HTTP().Get("http://x/" + version + "/events?" + q.Encode())
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("events: %s", resp.Status)
	}
	for dec := json.NewDecoder(resp.Body); dec.More(); {
		var m events.Message
		if err := dec.Decode(&m); err != nil {
			t.Fatal(err)
		}
		out = append(out, m)
	}
	return out
}

// TestEventTimes: since and until in every form, what they mean in the past, and across
// a crash and a restart of the daemon.
func TestEventTimes(t *testing.T) {
	t.Parallel()
	e := engine.Start(t)
	begin := time.Now()
	e.Must("volume", "create", "one")
	middle := time.Now()
	e.Must("volume", "create", "two")
	e.Kill()
	e.Launch()
	e.Must("volume", "create", "three")
	e.Terminate()
	e.Launch()
	e.Must("volume", "create", "four")
	names := func(q url.Values) string {
		t.Helper()
		q.Set("filters", `{"type":{"volume":true}}`)
		var out []string
		last := int64(0)
		for _, m := range feed(t, e, "v1.51", q) {
			if m.TimeNano <= last || m.Time != m.TimeNano/1e9 {
				t.Errorf("%d after %d, %d", m.TimeNano, last, m.Time)
			}
			last = m.TimeNano
			out = append(out, m.Actor.ID)
		}
		return strings.Join(out, " ")
	}
	now := func() string { return stamp(time.Now()) }
	for _, row := range []struct{ why, since, until, want string }{
		{"stamps", stamp(begin), now(), "one two three four"},
		{"from the middle", stamp(middle), now(), "two three four"},
		{"up to the middle", stamp(begin), stamp(middle), "one"},
		{"until alone", "", stamp(middle), "one"},
		{"seconds", fmt.Sprint(begin.Unix()), now(), "one two three four"},
		{"both long past", "1", "2", ""},
	} {
		q := url.Values{"until": {row.until}}
		if row.since != "" {
			q.Set("since", row.since)
		}
		if got := names(q); got != row.want {
			t.Errorf("%s: %q, want %q", row.why, got, row.want)
		}
	}
	all := feed(t, e, "v1.51", url.Values{"since": {stamp(begin)}, "until": {now()}})
	again := fmt.Sprintf("%d.%09d", all[1].TimeNano/1e9, all[1].TimeNano%1e9+1)
	if got := names(url.Values{"since": {again}, "until": {now()}}); got != "three four" {
		t.Errorf("after the second event: %q", got)
	}
	for _, args := range [][]string{{"--since", "10m", "--until", "-1s"}, {"--since", begin.Add(-time.Second).Format(time.RFC3339), "--until", "-1s"}} {
		if got := e.Must(append([]string{"events", "--filter", "type=volume", "--format", "{{.Actor.ID}}"}, args...)...); got != "one\ntwo\nthree\nfour" {
			t.Errorf("%v: %q", args, got)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := e.Cmd(ctx, "events", "--until", "-2s", "--filter", "event=create", "--format", "{{.Actor.ID}}")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	time.Sleep(300 * time.Millisecond)
	e.Must("volume", "create", "live")
	var live []string
	for sc := bufio.NewScanner(out); sc.Scan(); {
		live = append(live, sc.Text())
	}
	if err := cmd.Wait(); err != nil || strings.Join(live, " ") != "one two three four live" {
		t.Errorf("past and then live, until it is over: %q, %v", live, err)
	}
}

// TestEventsOfOldVersions: the fields of the oldest clients are there beside the new.
func TestEventsOfOldVersions(t *testing.T) {
	e := start(t)
	begin := time.Now()
	id := e.Must("create", "--name", "old", image)
	for _, version := range []string{"v1.24", "v1.51"} {
		got := feed(t, e, version, url.Values{"since": {stamp(begin)}, "until": {stamp(time.Now())}})
		if len(got) != 1 {
			t.Fatalf("%s: %+v", version, got)
		}
		if m := got[0]; m.Status != "create" || m.ID != id || m.From != image || m.Actor.ID != id || m.Scope != "local" || m.Actor.Attributes["name"] != "old" { //nolint:staticcheck // deprecated, still served
			t.Errorf("%s: %+v", version, m)
		}
	}
}

// TestEventFlood: a reader that does not read keeps nobody from working, and readers who
// do see every event once, in order.
func TestEventFlood(t *testing.T) {
	n := scale(10_000, 300)
	e := start(t)
	stuck, err := e.HTTP().Get("http://x/events")
	if err != nil {
		t.Fatal(err)
	}
	defer stuck.Body.Close() // never read
	begin := time.Now()
	for i := range n {
		resp, err := e.HTTP().Post(fmt.Sprintf("http://x/images/%s/tag?repo=flood&tag=%d", url.PathEscape(image), i), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusCreated {
			t.Fatal(resp.Status)
		}
	}
	got := feed(t, e, "v1.51", url.Values{"since": {stamp(begin)}, "until": {stamp(time.Now())}, "filters": {`{"event":["tag"]}`}})
	for i, m := range got {
		if want := fmt.Sprintf("flood:%d", i); m.Actor.Attributes["name"] != want {
			t.Fatalf("event %d is of %s", i, m.Actor.Attributes["name"])
		}
	}
	if len(got) != n {
		t.Errorf("%d events of %d", len(got), n)
	}
	t.Logf("%d tags and their events in %v", n, time.Since(begin).Round(time.Millisecond))
}
