package stats

import (
	"context"
	"sync"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
)

// Sample takes one sample of the container id.
type Sample func(ctx context.Context, id string) (*containertypes.StatsResponse, error)

// Every is the time between samples.
const Every = time.Second

// Collector samples each container that somebody watches once a second, however many
// watch. Safe for concurrent use.
type Collector struct {
	life   context.Context
	sample Sample

	mu    sync.Mutex
	feeds map[string]*feed // guarded by mu; by container id
}

// feed is one container's watchers.
type feed struct {
	watchers map[chan *containertypes.StatsResponse]struct{} // guarded by Collector.mu
	stop     context.CancelFunc
}

// NewCollector returns a collector whose work ends with life.
func NewCollector(life context.Context, sample Sample) *Collector {
	return &Collector{life: life, sample: sample, feeds: map[string]*feed{}}
}

// Watch yields a sample of id at once and then each second until stop is called or a
// sample fails, which closes the channel. Who is slow misses samples. Samples are
// shared: they must not be changed.
func (c *Collector) Watch(id string) (samples <-chan *containertypes.StatsResponse, stop func()) {
	ch := make(chan *containertypes.StatsResponse, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.feeds[id]
	if f == nil {
		f = &feed{watchers: map[chan *containertypes.StatsResponse]struct{}{}}
		c.feeds[id] = f
		ctx, cancel := context.WithCancel(c.life)
		f.stop = cancel
		go c.run(ctx, id, f) // ends with cancel, when the last watcher leaves
	}
	f.watchers[ch] = struct{}{}
	return ch, func() { c.leave(id, f, ch) }
}

func (c *Collector) leave(id string, f *feed, ch chan *containertypes.StatsResponse) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(f.watchers, ch)
	if len(f.watchers) == 0 && c.feeds[id] == f {
		f.stop()
		delete(c.feeds, id)
	}
}

func (c *Collector) run(ctx context.Context, id string, f *feed) {
	defer f.stop()
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for {
		s, err := c.sample(ctx, id)
		if err != nil {
			c.end(id, f)
			return
		}
		c.mu.Lock()
		for ch := range f.watchers {
			select {
			case ch <- s:
			default:
			}
		}
		c.mu.Unlock()
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// Stop ends the sampling of id and closes the channels of who watches it.
func (c *Collector) Stop(id string) {
	c.mu.Lock()
	f := c.feeds[id]
	c.mu.Unlock()
	if f != nil {
		f.stop()
		c.end(id, f)
	}
}

// end closes the watchers' channels.
func (c *Collector) end(id string, f *feed) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for ch := range f.watchers {
		close(ch)
	}
	f.watchers = nil
	if c.feeds[id] == f {
		delete(c.feeds, id)
	}
}
