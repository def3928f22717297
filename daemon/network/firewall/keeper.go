package firewall

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"gantry/daemon/network/firewalld"
	"gantry/daemon/network/nft"
)

// How soon after a change is looked, how long after the last look, and how often without
// any change.
const (
	settle  = 50 * time.Millisecond
	spacing = 500 * time.Millisecond
	poll    = 30 * time.Second
	again   = time.Second // after a look that failed; twice that after the next, up to poll
)

// Config is what a Keeper keeps.
type Config struct {
	Instance string   // names the engine's table, and marks its rules elsewhere
	Bridges  []string // of the engine's networks
	Table    *nft.Table
	// Sysctls sets those again that packets need; it is called at each look.
	Sysctls func() error
}

// Keeper keeps the firewall open for containers. Safe for concurrent use.
type Keeper struct {
	cfg      Config
	log      *slog.Logger
	warnings atomic.Pointer[[]string] // about nftables
	changed  chan struct{}            // holds one: somebody asks for a look
	stop     context.CancelFunc
	running  sync.WaitGroup // what Start began
	trouble  string         // of the last look, which one goroutine takes at a time
}

// New returns a keeper that does nothing before Start.
func New(cfg Config, log *slog.Logger) *Keeper {
	return &Keeper{cfg: cfg, log: log, changed: make(chan struct{}, 1), stop: func() {}}
}

// Start looks for the first time, and keeps on until Close.
func (k *Keeper) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	k.stop = cancel
	l, err := listen()
	if err != nil {
		k.log.Error("firewall changes are seen late", "err", err)
	} else {
		k.running.Go(func() { l.run(ctx, k.cfg.Instance, k.ask, k.log) })
	}
	k.running.Go(func() { k.run(ctx) })
	if len(k.cfg.Bridges) > 0 {
		k.running.Go(func() { firewalld.Keep(ctx, k.cfg.Bridges, k.ask, k.log) })
	}
}

// Close ends the looking. With leave, everything of ours outside the engine's own table
// goes too, before ctx ends; the table is its owner's.
func (k *Keeper) Close(ctx context.Context, leave bool) error {
	k.stop()
	k.running.Wait()
	if !leave {
		return nil
	}
	return errors.Join(accept(k.cfg.Instance, nil), firewalld.Leave(ctx, k.cfg.Bridges))
}

// Warnings tells what keeps packets from containers and can't be helped from here.
func (k *Keeper) Warnings() (all []string) {
	if w := k.warnings.Load(); w != nil {
		all = slices.Clone(*w)
	}
	legacy, err := surveyLegacy(k.cfg.Bridges) // of whose changes the kernel does not tell
	if err != nil {
		k.log.Warn("look for what drops forwarded packets", "err", err)
	}
	return append(all, legacy...)
}

// ask asks for a look, now or soon.
func (k *Keeper) ask() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

func (k *Keeper) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var looked time.Time
	wait := again
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-k.changed:
			select {
			case <-ctx.Done():
				return
			case <-time.After(max(settle, spacing-time.Since(looked))):
			}
			select { // what came while we waited is seen now
			case <-k.changed:
			default:
			}
		}
		if k.look() {
			wait = again
			timer.Reset(poll)
		} else {
			timer.Reset(wait)
			wait = min(2*wait, poll)
		}
		looked = time.Now()
	}
}

// look puts right what is not, and is quick when all is.
func (k *Keeper) look() (ok bool) {
	repaired, err := k.cfg.Table.Repair()
	if repaired {
		k.log.Warn("the firewall's table was not as it was left: made anew")
	}
	err = errors.Join(err, k.cfg.Sysctls(), accept(k.cfg.Instance, k.cfg.Bridges))
	closed, serr := survey(k.cfg.Instance, k.cfg.Bridges)
	k.warnings.Store(&closed)
	trouble := ""
	if err = errors.Join(err, serr); err != nil {
		trouble = err.Error()
	}
	if trouble != k.trouble && err != nil {
		k.log.Warn("keep the firewall open", "err", err)
	}
	k.trouble = trouble
	return err == nil
}
