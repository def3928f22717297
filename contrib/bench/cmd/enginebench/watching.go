package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"bench/internal/engine"
)

// perSecond measures the CPU time of everything during window, as ms per second.
func perSecond(ep *endpoint, window time.Duration) (float64, error) {
	before, ok := ep.cpu()
	if !ok {
		return 0, errors.New("CPU time is unknown: give the file of a cgroup")
	}
	began := time.Now()
	time.Sleep(window)
	after, _ := ep.cpu()
	return (after - before) / time.Since(began).Seconds(), nil
}

// statsTest reads the stats of many containers at once, as `docker stats` does.
func statsTest(o *options) test {
	return test{
		name: "stats", about: fmt.Sprintf("CPU of %d streams of stats, a sample a second each", o.Watched), cost: 7,
		setup: func(ep *endpoint) error { return populate(ep.Client, o, o.Watched, true) },
		rep: func(ep *endpoint, _ int, add addFunc) error {
			var list []struct{ Id string }
			if err := ep.Call("GET", "/containers/json", nil, &list); err != nil {
				return err
			}
			var lines atomic.Int64
			var readers sync.WaitGroup
			var bodies []io.Closer
			defer func() {
				for _, b := range bodies {
					b.Close()
				}
				readers.Wait()
			}()
			for _, c := range list {
				resp, err := ep.Request("GET", "/containers/"+c.Id+"/stats", nil, "")
				if err != nil {
					return err
				}
				bodies = append(bodies, resp.Body)
				readers.Go(func() {
					for s := bufio.NewReaderSize(resp.Body, 16<<10); ; lines.Add(1) {
						if _, err := s.ReadSlice('\n'); err != nil {
							return // closed
						}
					}
				})
			}
			time.Sleep(2 * time.Second) // every stream has begun
			before := lines.Load()
			began := time.Now()
			used, err := perSecond(ep, o.Settle)
			if err != nil {
				return err
			}
			add("watch_cpu", "ms/s", used)
			add("samples", "1/s", float64(lines.Load()-before)/time.Since(began).Seconds())
			return nil
		},
		teardown: func(ep *endpoint) error { return ep.RemoveAll() },
	}
}

// healthTest has many containers look after their health each second. Only one
// engine's containers are there at a time: a hundred checks a second can keep all
// processors busy.
func healthTest(o *options) test {
	return test{
		name: "health", about: fmt.Sprintf("CPU of %d containers with a health check a second each", o.Watched), cost: 10,
		rep: func(ep *endpoint, _ int, add addFunc) (err error) {
			defer func() { err = errors.Join(err, ep.RemoveAll()) }()
			if err := parallel(o.Watched, 4, func(int) error { return startHealthy(ep, o) }); err != nil {
				return err
			}
			probes, stop, err := countEvents(ep, `{"event":["exec_die"]}`)
			if err != nil {
				return err
			}
			defer stop()
			time.Sleep(time.Second)
			before := probes.Load()
			began := time.Now()
			used, err := perSecond(ep, o.Settle)
			if err != nil {
				return err
			}
			rate := float64(probes.Load()-before) / time.Since(began).Seconds()
			if rate == 0 {
				return errors.New("no container looks after its health")
			}
			add("probes", "1/s", rate)
			add("watch_cpu", "ms/s", used)
			add("cpu_per_probe", "ms", used/rate)
			return nil
		},
	}
}

func startHealthy(ep *endpoint, o *options) error {
	id, err := ep.Create(engine.Spec{
		Image: o.Image, Cmd: sleeping, HostConfig: engine.HostConfig{NetworkMode: "none"},
		Healthcheck: &engine.Healthcheck{Test: []string{"CMD", "true"}, Interval: time.Second},
	})
	if err != nil {
		return err
	}
	return ep.Client.Start(id)
}

// countEvents counts events until stop is called.
func countEvents(ep *endpoint, filters string) (n *atomic.Int64, stop func(), err error) {
	resp, err := ep.Request("GET", "/events?filters="+url.QueryEscape(filters), nil, "")
	if err != nil {
		return nil, nil, err
	}
	n = new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for s := bufio.NewReaderSize(resp.Body, 64<<10); ; n.Add(1) {
			if _, err := s.ReadSlice('\n'); err != nil {
				return // closed
			}
		}
	}()
	return n, func() { resp.Body.Close(); <-done }, nil
}

// eventListeners is how many clients follow the events of the events test.
const eventListeners = 4

// eventsTest has several clients follow the events that others cause.
func eventsTest(o *options) test {
	box := fixture{}
	return test{
		name: "events", about: "events a second that workers cause by exec_create and several clients read", cost: 4,
		setup: box.up(o, sleeping), teardown: box.down,
		rep: func(ep *endpoint, _ int, add addFunc) error {
			var read []*atomic.Int64
			for range eventListeners {
				n, stop, err := countEvents(ep, `{"container":["`+box[ep]+`"]}`)
				if err != nil {
					return err
				}
				defer stop()
				read = append(read, n)
			}
			time.Sleep(100 * time.Millisecond) // dockerd answers before it listens
			before, _ := ep.cpu()
			made, took, err := causeEvents(ep, box[ep], o)
			if err != nil {
				return err
			}
			deadline := time.Now().Add(5 * time.Second)
			for _, n := range read {
				for n.Load() < made && time.Now().Before(deadline) {
					time.Sleep(time.Millisecond)
				}
				add("complete", "bool", min(1, float64(n.Load())/float64(made)))
			}
			add("throughput", "1/s", float64(made)/took.Seconds())
			if after, ok := ep.cpu(); ok {
				add("cpu_per_event", "ms", (after-before)/float64(made))
			}
			return nil
		},
	}
}

// mostEvents bounds the exec records that a repetition leaves behind.
const mostEvents = 2500

// causeEvents makes exec records, an event each, for the window.
func causeEvents(ep *endpoint, id string, o *options) (made int64, took time.Duration, err error) {
	var n, done atomic.Int64
	began := time.Now()
	in := map[string]any{"Cmd": []string{"true"}}
	err = parallel(o.Workers, o.Workers, func(int) error {
		for time.Since(began) < o.Window && n.Add(1) <= mostEvents {
			if err := ep.Call("POST", "/containers/"+id+"/exec", in, nil); err != nil {
				return err
			}
			done.Add(1)
		}
		return nil
	})
	return done.Load(), time.Since(began), err
}
