package main

import (
	"time"

	"bench/internal/engine"
	"bench/internal/tally"
)

// countTest counts executions, new processes and syncs of the whole engine, the
// container's own first process included, per operation: an idle stretch first, then a
// row of operations and a stretch for what the engine puts off.
func countTest(o *options, name, about string, prepare func(ep *endpoint) (op func() error, done func(), err error)) test {
	return test{
		name: "counts_" + name, about: "execs, forks and syncs per " + about + " (needs -a-events)", cost: 0,
		rep: func(ep *endpoint, _ int, add addFunc) error {
			if ep.Events == "" {
				return nil
			}
			op, done, err := prepare(ep)
			if err != nil {
				return err
			}
			defer done()
			time.Sleep(o.Settle)
			c, err := tally.Open(o.Tracefs, ep.Events)
			if err != nil {
				return err
			}
			defer c.Close()
			idle, err := idleRate(c, o.Settle)
			if err != nil {
				return err
			}
			before, err := c.Read()
			if err != nil {
				return err
			}
			began := time.Now()
			for range o.CountBatch {
				if err := op(); err != nil {
					return err
				}
			}
			time.Sleep(o.Settle)
			took := time.Since(began).Seconds()
			after, err := c.Read()
			if err != nil {
				return err
			}
			per := tally.PerOperation(before, after, idle, took, o.CountBatch)
			for _, e := range tally.Events {
				add(e.Name, "", per[e.Name])
			}
			return nil
		},
	}
}

// idleRate returns the events per second of an engine that nobody asks anything.
func idleRate(c *tally.Counters, during time.Duration) (map[string]float64, error) {
	before, err := c.Read()
	if err != nil {
		return nil, err
	}
	time.Sleep(during)
	after, err := c.Read()
	for name := range after {
		after[name] = (after[name] - before[name]) / during.Seconds()
	}
	return after, err
}

func noAdd(string, string, float64) {}

func countTests(o *options) []test {
	var tests []test
	for _, network := range []string{"none", "bridge"} {
		tests = append(tests, countTest(o, network, "create+start+wait+remove of true", func(ep *endpoint) (func() error, func(), error) {
			op := func() error { return oneTrue(ep, o, network, newWatch(noAdd)) }
			return op, func() {}, op()
		}))
	}
	return append(tests,
		countTest(o, "exec", "exec of true", func(ep *endpoint) (func() error, func(), error) {
			box := fixture{}
			err := box.up(o, sleeping)(ep)
			return func() error { return execTrue(ep, box[ep], newWatch(noAdd)) }, func() { box.down(ep) }, err
		}),
		countTest(o, "stop", "stop", func(ep *endpoint) (func() error, func(), error) {
			var ids []string
			done := func() {
				for _, id := range ids {
					ep.Remove(id)
				}
			}
			for range o.CountBatch {
				id, err := ep.Create(engine.Spec{Image: o.Image, Cmd: trapping, HostConfig: engine.HostConfig{NetworkMode: "none"}})
				if err == nil {
					ids = append(ids, id)
					err = ep.Client.Start(id)
				}
				if err != nil {
					done()
					return nil, nil, err
				}
			}
			next := 0
			return func() error {
				next++
				return ep.Call("POST", "/containers/"+ids[next-1]+"/stop?t=10", nil, nil)
			}, done, nil
		}),
	)
}
