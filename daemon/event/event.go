// Package event keeps and hands out the engine's events, the feed of GET /events.
//
// Every event gets a time stamp in nanoseconds that is greater than any before it,
// across restarts too, so that a stamp is a position: a client that comes back with
// the last one it saw neither loses nor repeats. The newest events are in memory; all
// but fleeting ones go to a log on disk that is bounded and not synced (a power cut may
// lose its end):
//
//	<dir>/events.jsonl     one JSON object of Docker's events.Message per line
//	<dir>/events.jsonl.1   the file before, replaced when the current one is full
//
// Publish never waits for the disk nor for a subscriber. A subscriber that falls
// behind the memory is served from the log.
//
// Lock order: Service.mu is a leaf. diskLog.mu is held over the file's I/O and never
// together with Service.mu.
package event

import (
	"errors"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/events"
)

const (
	// inMemory is how many events are kept in memory once they are on disk too;
	// Docker keeps 256.
	inMemory = 1024
	// maxInMemory is how many wait for a disk that does not keep up, before they are lost.
	maxInMemory = 16 * inMemory
	// maxSize is what the events take that are kept in memory once they are on disk, in
	// bytes: those of containers have all their labels.
	maxSize = 4 << 20
)

// Service is the feed. It is safe for concurrent use.
type Service struct {
	log       *slog.Logger
	disk      *diskLog
	listeners atomic.Int64
	stop      chan struct{} // closed by Close
	due       chan struct{} // asks for a write
	written   chan struct{} // closed when the writer has ended

	mu      sync.Mutex
	ring    []message     // guarded by mu; oldest first
	size    int           // guarded by mu; of ring, in bytes
	first   uint64        // guarded by mu; number of ring[0]
	onDisk  uint64        // guarded by mu; number of the first event that is not on disk yet
	last    int64         // guarded by mu; newest time stamp, nanoseconds
	more    chan struct{} // guarded by mu; closed and replaced at each Publish
	stopped bool          // guarded by mu
	count   uint64        // guarded by mu; published since Open
}

// message is an event in memory.
type message struct {
	events.Message
	fleeting bool // not for the disk
}

// size is about what m takes in memory, in bytes. An action may hold a command.
func (m message) size() (n int) {
	for k, v := range m.Actor.Attributes {
		n += len(k) + len(v)
	}
	return n + len(m.Action) + 256
}

// Open takes up the feed kept in dir, which it makes if need be. A log that cannot be
// read is moved aside, and a new one begun; single bad lines are skipped.
func Open(dir string, log *slog.Logger) (*Service, error) {
	disk, past, err := openLog(dir)
	if err != nil {
		log.Warn("event log begun anew, what there was is moved aside", "path", dir, "err", err)
		if merr := moveAside(dir); merr != nil {
			return nil, errors.Join(err, merr)
		}
		if disk, past, err = openLog(dir); err != nil {
			return nil, err
		}
	}
	s := &Service{log: log, disk: disk, stop: make(chan struct{}), due: make(chan struct{}, 1), written: make(chan struct{}), more: make(chan struct{})}
	for _, m := range past {
		s.ring = append(s.ring, message{Message: m})
		s.size += s.ring[len(s.ring)-1].size()
		s.last = m.TimeNano
	}
	s.onDisk = uint64(len(s.ring))
	go s.write()
	return s, nil
}

// openLog opens the log and reads its newest events.
func openLog(dir string) (*diskLog, []events.Message, error) {
	disk, err := openDisk(dir)
	if err != nil {
		return nil, nil, err
	}
	past, err := disk.tail(inMemory)
	if err != nil {
		_ = disk.close()
		return nil, nil, err
	}
	return disk, past, nil
}

// Close writes what is not on disk yet, ends all subscriptions and closes the log.
// What is published afterwards is dropped.
func (s *Service) Close() error {
	s.mu.Lock()
	if s.stopped {
		s.mu.Unlock()
		return nil
	}
	s.stopped = true
	close(s.stop)
	s.mu.Unlock()
	<-s.written
	return s.disk.close()
}

// Publish adds an event that happened now. It never blocks.
func (s *Service) Publish(typ events.Type, action events.Action, actor events.Actor) {
	s.add(typ, action, actor, false)
}

// PublishFleeting is Publish of an event that comes so often, and means so little later,
// that it is not written to disk: who listens gets it, and who asks for the past as long
// as it is in memory.
func (s *Service) PublishFleeting(typ events.Type, action events.Action, actor events.Actor) {
	s.add(typ, action, actor, true)
}

func (s *Service) add(typ events.Type, action events.Action, actor events.Actor, fleeting bool) {
	actor.Attributes = maps.Clone(actor.Attributes)
	m := events.Message{Type: typ, Action: action, Actor: actor, Scope: "local"}
	switch typ { // Docker still fills these for its oldest clients
	case events.ContainerEventType:
		m.Status, m.ID, m.From = string(action), actor.ID, actor.Attributes["image"] //nolint:staticcheck // deprecated, still served
	case events.ImageEventType:
		m.Status, m.ID = string(action), actor.ID //nolint:staticcheck // deprecated, still served
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.last = max(s.last+1, time.Now().UnixNano())
	m.TimeNano, m.Time = s.last, s.last/int64(time.Second)
	s.count++
	s.trim()
	if fleeting && s.onDisk == s.first+uint64(len(s.ring)) { // nothing before it waits
		s.onDisk++
	}
	s.ring = append(s.ring, message{m, fleeting})
	if !fleeting {
		select {
		case s.due <- struct{}{}:
		default:
		}
	}
	s.size += s.ring[len(s.ring)-1].size()
	close(s.more)
	s.more = make(chan struct{})
}

// trim makes room in memory, a good piece at a time, by what is on disk. It is called
// with mu held.
func (s *Service) trim() {
	if len(s.ring) < inMemory && s.size < maxSize {
		return
	}
	piece := uint64(max(1, len(s.ring)/4))
	drop := min(max(s.onDisk, s.first)-s.first, piece)
	if len(s.ring) >= maxInMemory || s.size >= maxInMemory/inMemory*maxSize {
		drop = piece
	}
	if drop < piece {
		return
	}
	for _, m := range s.ring[:drop] {
		s.size -= m.size()
	}
	s.ring = append(s.ring[:0:0], s.ring[drop:]...) // a copy: readers may hold the old one
	s.first += drop
}

// Published is the number of events since Open.
func (s *Service) Published() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

// Listeners is the number of subscriptions, for GET /info.
func (s *Service) Listeners() int { return int(s.listeners.Load()) }

// batch is a piece of the feed.
type batch struct {
	msgs []message
	next uint64          // number of the event after msgs
	lost bool            // events before msgs have left the memory
	more <-chan struct{} // closed when there is an event after msgs
}

// from returns the events in memory from number n on. They are shared: do not change.
func (s *Service) from(n uint64) batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := batch{next: s.first + uint64(len(s.ring)), more: s.more, lost: n < s.first}
	b.msgs = s.ring[min(max(n, s.first)-s.first, uint64(len(s.ring))):len(s.ring):len(s.ring)]
	return b
}

// retry is how long the writer waits after the disk has refused.
const retry = time.Second

// write is the goroutine that brings events to disk; Close ends it. What the disk
// refuses waits in memory, within its bound.
func (s *Service) write() {
	defer close(s.written)
	failing := false
	for {
		b := s.unwritten()
		if b.lost {
			s.log.Warn("event log fell behind, some events are not in it")
		}
		n, err := s.bring(b.msgs)
		s.setOnDisk(b.next - uint64(len(b.msgs)-n))
		switch {
		case err != nil && !failing:
			s.log.Warn("write event log, to be tried again", "err", err)
		case err == nil && failing:
			s.log.Info("event log is written again")
		}
		failing = err != nil
		if !s.waitToWrite(b, err) {
			return
		}
	}
}

// bring writes what is for the disk, and tells how many of msgs are done with.
func (s *Service) bring(msgs []message) (done int, err error) {
	lasting := make([]events.Message, 0, len(msgs))
	at := make([]int, 0, len(msgs)) // in msgs
	for i, m := range msgs {
		if !m.fleeting {
			lasting, at = append(lasting, m.Message), append(at, i)
		}
	}
	n, err := s.disk.append(lasting)
	if n < len(lasting) {
		return at[n], err
	}
	return len(msgs), err
}

// waitToWrite waits until there is something to write, after a failure for a while, and
// is false when the writer is to end.
func (s *Service) waitToWrite(b batch, err error) bool {
	switch {
	case err != nil:
		select {
		case <-time.After(retry):
			return true
		case <-s.stop:
			return false
		}
	case len(b.msgs) > 0:
		return true
	}
	select {
	case <-s.due:
		return true
	case <-s.stop:
		return len(s.unwritten().msgs) > 0
	}
}

func (s *Service) unwritten() batch {
	s.mu.Lock()
	n := s.onDisk
	s.mu.Unlock()
	return s.from(n)
}

func (s *Service) setOnDisk(n uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onDisk = max(s.onDisk, n)
}
