package task

import "sync"

// homes are the shims that several tasks may live in, by address. A shim is asked to end
// by the last who leaves it, and takes no more from then on. The zero value is ready.
type homes struct {
	mu     sync.Mutex
	of     map[string]*home   // guarded by mu; by address
	groups map[groupKey]*door // guarded by mu
}

// home is one shim's.
type home struct {
	users  int
	ending chan struct{} // not nil when it has been asked to end; closed when that is over
}

// groupKey names a group of containers under our own shim.
type groupKey struct{ ns, group, binary string }

// door is how the members of a group find their shim: the first opens it, others wait.
type door struct {
	ready chan struct{} // closed when boot and pid are set, or the first has failed
	boot  bootstrap
	pid   int // of the shim's process
	open  bool
}

// enter counts a task in. When the shim there is ending nobody is, and ending is closed
// once that is over.
func (h *homes) enter(s *shim) (ending <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.enterLocked(s)
}

func (h *homes) enterLocked(s *shim) (ending <-chan struct{}) {
	if s.boot.OneTask || s.housed {
		return nil
	}
	at := h.of[s.boot.Address]
	if at == nil {
		if h.of == nil {
			h.of = map[string]*home{}
		}
		at = &home{}
		h.of[s.boot.Address] = at
	}
	if at.ending != nil {
		return at.ending
	}
	at.users++
	s.housed = true
	return nil
}

// exit counts a task out and says whether it was the last: its caller is then the one who
// ends the shim, and calls ended afterwards.
func (h *homes) exit(s *shim) (last bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.of[s.boot.Address]
	if at == nil { // the only one, that was never counted
		return true
	}
	if s.housed {
		s.housed = false
		at.users--
	}
	if at.users > 0 || at.ending != nil {
		return false
	}
	at.ending = make(chan struct{})
	if d := h.groups[s.group()]; d != nil && d.open && d.boot.Address == s.boot.Address {
		delete(h.groups, s.group())
	}
	return true
}

// ended forgets a shim that exit has said to be ended.
func (h *homes) ended(s *shim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at := h.of[s.boot.Address]; at != nil && at.ending != nil {
		close(at.ending)
		delete(h.of, s.boot.Address)
	}
}

// died counts out a task whose shim is dead; nobody joins it any more.
func (h *homes) died(s *shim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d := h.groups[s.group()]; d != nil && d.open && d.boot.Address == s.boot.Address {
		delete(h.groups, s.group())
	}
	at := h.of[s.boot.Address]
	if at == nil || !s.housed {
		return
	}
	s.housed = false
	if at.users--; at.users == 0 && at.ending == nil {
		delete(h.of, s.boot.Address)
	}
}

// shared says whether others live in the shim.
func (h *homes) shared(s *shim) bool {
	if s.boot.OneTask {
		return false
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	at := h.of[s.boot.Address]
	return at != nil && (at.users > 1 || at.users == 1 && !s.housed)
}

// group is that of a shim of ours.
func (s *shim) group() groupKey { return groupKey{s.ns, s.boot.Group, s.binary} }

// knock returns the door of a group; first says that the caller is to open it.
func (h *homes) knock(k groupKey) (d *door, first bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if d := h.groups[k]; d != nil {
		return d, false
	}
	if h.groups == nil {
		h.groups = map[groupKey]*door{}
	}
	d = &door{ready: make(chan struct{})}
	h.groups[k] = d
	return d, true
}

// opened lets others in, when s, the first, has launched the group's shim (ok) or could
// not.
func (h *homes) opened(k groupKey, d *door, s *shim, pid int, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if ok {
		d.boot, d.pid, d.open = s.boot, pid, true
		h.enterLocked(s)
	} else if h.groups[k] == d {
		delete(h.groups, k)
	}
	close(d.ready)
}

// join counts s in behind an open door; false says that there is nobody any more.
func (h *homes) join(k groupKey, d *door, s *shim) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !d.open || h.groups[k] != d {
		return false
	}
	s.boot = d.boot
	return h.enterLocked(s) == nil
}

// shut forgets a group's shim that has died: the next of the group launches another.
func (h *homes) shut(k groupKey, d *door) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.groups[k] == d {
		delete(h.groups, k)
	}
}

// found counts in what was found at start, and makes a group's shim known.
func (h *homes) found(s *shim) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.enterLocked(s)
	if s.boot.Group == "" || h.groups[s.group()] != nil {
		return
	}
	if h.groups == nil {
		h.groups = map[groupKey]*door{}
	}
	d := &door{ready: make(chan struct{}), boot: s.boot, pid: s.bundle.pid(fileShimPID), open: true}
	close(d.ready)
	h.groups[s.group()] = d
}
