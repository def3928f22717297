package integrationcli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/events"
)

// peerVersion is the newest that Debian's dockerd speaks.
const peerVersion = "/v1.41"

// peer is one of the two engines that are asked the same.
type peer struct {
	socket string
	known  *strings.Replacer // what differs between engines, by what it stands for
	ids    map[string]string // of containers, by the name that each was created with
}

func (p *peer) call(method, path string, body any) (status int, answer string, err error) {
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return 0, "", err
		}
		in = bytes.NewReader(raw)
	}
	req, err := http.NewRequest(method, "http://peer"+peerVersion+path, in)
	if err != nil {
		return 0, "", err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	c := &http.Client{Timeout: 40 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", p.socket)
		},
	}}
	r, err := c.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer r.Body.Close()
	raw, err := io.ReadAll(r.Body)
	return r.StatusCode, string(raw), err
}

// learn has what the ids of the engine's containers and image stand for known.
func (p *peer) learn(t *testing.T) {
	t.Helper()
	var list []struct {
		ID    string `json:"Id"`
		Names []string
	}
	if _, raw, err := p.call("GET", "/containers/json?all=1", nil); err != nil || json.Unmarshal([]byte(raw), &list) != nil {
		t.Fatalf("list: %v %s", err, raw)
	}
	var pairs []string
	for _, c := range list {
		if p.ids == nil {
			p.ids = map[string]string{}
		}
		if !slices.Contains(slices.Collect(maps.Values(p.ids)), c.ID) {
			p.ids[c.Names[0]] = c.ID
		}
		pairs = append(pairs, c.ID, "<"+c.Names[0]+">", c.ID[:12], "<"+c.Names[0]+" short>")
	}
	p.known = strings.NewReplacer(pairs...)
}

var (
	aTime   = regexp.MustCompile(`^2\d\d\d-\d\d-\d\dT[0-9:.]+Z$`)
	anID    = regexp.MustCompile(`\b(sha256:)?[0-9a-f]{64}\b`)
	anAddr  = regexp.MustCompile(`\b10(\.\d+){3}\b|\b02:42(:[0-9a-f]{2}){4}\b|\b([0-9a-f]{2}:){5}[0-9a-f]{2}\b`)
	aPlace  = regexp.MustCompile(`/[^ ":]*/(containers|volumes|netns)/`)
	someAgo = regexp.MustCompile(`(About an? \w+|Less than a second|\d+ seconds?)`)
)

// aside are fields that are not compared: newer than Debian's dockerd or older than the
// engine, or named by what each engine is made of.
var aside = map[string]bool{
	"KernelMemory": true, "KernelMemoryTCP": true, "DNSNames": true, "GwPriority": true, "MaskedPaths": true,
	"Driver": true, "GraphDriver": true, "Runtime": true, "SandboxID": true, "SandboxKey": true, "SizeRw": true,
	"EndpointID": true, "NetworkID": true, "io_service_bytes_recursive": true, "io_serviced_recursive": true,
}

// plain makes v, of an answer, what it is on either engine.
func (p *peer) plain(key string, v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, x := range v {
			switch {
			case aside[k]:
			case k == "stats", k == "Processes": // only which there are
				switch x := x.(type) {
				case map[string]any:
					out[k] = strings.Join(slices.Sorted(maps.Keys(x)), " ")
				case []any:
					out[k] = len(x)
				}
			case k == "Mounts" && x != nil:
				list := p.plain(k, x).([]any)
				slices.SortFunc(list, func(a, b any) int { return strings.Compare(text(a), text(b)) })
				out[k] = list
			default:
				out[p.text(k)] = p.plain(k, x)
			}
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = p.plain(key, x)
		}
		return out
	case string:
		return p.text(v)
	case float64:
		if isMeasured(key) {
			return "a number"
		}
		return v
	}
	return v
}

func text(v any) string {
	raw, _ := json.Marshal(v)
	return string(raw)
}

func isMeasured(key string) bool {
	return slices.Contains([]string{
		"Pid", "Created", "SizeRw", "SizeRootFs", "PublicPort", "time", "timeNano", "usage", "max_usage", "limit", "value",
		"total_usage", "usage_in_kernelmode", "usage_in_usermode", "system_cpu_usage", "percpu_usage", "major", "minor",
		"rx_bytes", "rx_packets", "tx_bytes", "tx_packets", "rx_dropped",
	}, key)
}

func (p *peer) text(s string) string {
	s = p.known.Replace(s)
	if aTime.MatchString(s) && !strings.HasPrefix(s, "0001") {
		return "a time"
	}
	s = aPlace.ReplaceAllString(s, "…/$1/")
	s = anID.ReplaceAllString(s, "an id")
	s = anAddr.ReplaceAllString(s, "an address")
	return someAgo.ReplaceAllString(s, "some time")
}

// differences lists where two answers are not the same, by path.
func differences(path string, theirs, ours any) (out []string) {
	say := func() []string {
		return []string{fmt.Sprintf("%s: theirs %s, ours %s", path, text(theirs), text(ours))}
	}
	switch a := theirs.(type) {
	case map[string]any:
		b, ok := ours.(map[string]any)
		if !ok {
			return say()
		}
		keys := slices.Sorted(maps.Keys(a))
		for k := range b {
			if _, both := a[k]; !both {
				keys = append(keys, k)
			}
		}
		for _, k := range keys {
			x, inA := a[k]
			y, inB := b[k]
			switch {
			case !inA:
				out = append(out, fmt.Sprintf("%s.%s: only ours: %s", path, k, text(y)))
			case !inB:
				out = append(out, fmt.Sprintf("%s.%s: only theirs: %s", path, k, text(x)))
			default:
				out = append(out, differences(path+"."+k, x, y)...)
			}
		}
		return out
	case []any:
		b, ok := ours.([]any)
		if !ok || len(a) != len(b) {
			return say()
		}
		for i := range a {
			out = append(out, differences(path+"["+strconv.Itoa(i)+"]", a[i], b[i])...)
		}
		return out
	}
	if theirs != ours && text(theirs) != text(ours) {
		return say()
	}
	return nil
}

// decode reads an answer: one JSON value, a line of them, or text.
func decode(raw string) any {
	var all []any
	dec := json.NewDecoder(strings.NewReader(raw))
	for {
		var v any
		err := dec.Decode(&v)
		if err == io.EOF {
			break
		}
		if err != nil {
			return raw
		}
		all = append(all, v)
	}
	if len(all) == 1 {
		return all[0]
	}
	return all
}

// request is one that both are asked. A body is an object of a create or an update.
type request struct {
	method, path string
	body         object
}

func (r request) String() string { return r.method + " " + r.path }

// askBoth plays a request on both and lists the differences that are not known.
func askBoth(t *testing.T, docker, gantry *peer, r request) (out []string) {
	t.Helper()
	var body any
	if r.body != nil {
		body = r.body
	}
	status, theirs, err := docker.call(r.method, r.path, body)
	if err != nil {
		t.Fatalf("dockerd: %s: %v", r, err)
	}
	got, ours, err := gantry.call(r.method, r.path, body)
	if err != nil {
		t.Fatalf("%s: %v", r, err)
	}
	docker.learn(t)
	gantry.learn(t)
	if got != status {
		out = append(out, fmt.Sprintf("%s: status: theirs %d, ours %d", r, status, got))
	}
	return append(out, differences(r.String()+": ", docker.plain("", decode(theirs)), gantry.plain("", decode(ours)))...)
}

func filtered(pairs ...string) string {
	f := map[string][]string{}
	for i := 0; i < len(pairs); i += 2 {
		f[pairs[i]] = append(f[pairs[i]], pairs[i+1])
	}
	raw, _ := json.Marshal(f)
	return "filters=" + url.QueryEscape(string(raw))
}

// told are the events of a container so far, by the name it was created with.
func (p *peer) told(t *testing.T, name string) string {
	t.Helper()
	_, raw, err := p.call("GET", fmt.Sprintf("/events?since=1&until=%d&%s", time.Now().Unix(), filtered("container", p.ids[name])), nil)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for dec := json.NewDecoder(strings.NewReader(raw)); ; {
		var m events.Message
		if err := dec.Decode(&m); err != nil {
			return strings.Join(out, "\n")
		}
		delete(m.Actor.Attributes, "execDuration") // newer
		out = append(out, p.text(fmt.Sprintf("%s %s %v", m.Type, m.Action, m.Actor.Attributes)))
	}
}
