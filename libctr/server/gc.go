package server

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/plugin"

	"gantry/libctr/metadata"
)

// gcConfig is the table of io.containerd.gc.v1.scheduler.
type gcConfig struct {
	PauseThreshold    float64  `toml:"pause_threshold"`
	DeletionThreshold int      `toml:"deletion_threshold"`
	MutationThreshold int      `toml:"mutation_threshold"`
	ScheduleDelay     duration `toml:"schedule_delay"`
	StartupDelay      duration `toml:"startup_delay"`
}

// duration is a time.Duration whose text is Go's, "100ms".
type duration time.Duration

func (d duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

func (d *duration) UnmarshalText(text []byte) error {
	v, err := time.ParseDuration(string(text))
	*d = duration(v)
	return err
}

func defaultGCConfig() *gcConfig {
	s := metadata.DefaultSchedule()
	return &gcConfig{s.PauseThreshold, s.DeletionThreshold, s.MutationThreshold, duration(s.ScheduleDelay), duration(s.StartupDelay)}
}

func (c *gcConfig) schedule() metadata.Schedule {
	return metadata.Schedule{
		PauseThreshold: c.PauseThreshold, DeletionThreshold: c.DeletionThreshold, MutationThreshold: c.MutationThreshold,
		ScheduleDelay: time.Duration(c.ScheduleDelay), StartupDelay: time.Duration(c.StartupDelay),
	}
}

func (b *builder) initGC(ic *plugin.InitContext) (any, error) {
	db, err := lookup[*metadata.DB](ic, typeMetadata, "bolt")
	if err != nil {
		return nil, err
	}
	cfg := ic.Config.(*gcConfig)
	ic.Meta.Exports["PauseThreshold"] = fmt.Sprint(cfg.PauseThreshold)
	ic.Meta.Exports["DeletionThreshold"] = fmt.Sprint(cfg.DeletionThreshold)
	ic.Meta.Exports["MutationThreshold"] = fmt.Sprint(cfg.MutationThreshold)
	ic.Meta.Exports["ScheduleDelay"] = time.Duration(cfg.ScheduleDelay).String()
	ctx, cancel := context.WithCancel(context.WithoutCancel(ic.Context))
	done := make(chan struct{})
	go func() { // ends with the closer
		defer close(done)
		db.Run(ctx, cfg.schedule())
	}()
	b.graph.onClose("garbage collector", func(context.Context) error {
		cancel()
		<-done
		return nil
	})
	return db, nil
}
