package process

import (
	"bytes"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// member is a process of the container that is held by a pidfd, so that its number can
// be no other's.
type member struct {
	pid, parent, session int
	fd                   int
}

// rounds bounds how often the container is looked through for what a process has begun
// while it was looked through.
const rounds = 32

// killTree kills p and all that it has begun: what is below it, and what shares the
// session that it leads. First all are stopped, until there is nobody new, so that none
// has a child that nobody sees.
func (t *Task) killTree(p *Process) error {
	p.mu.Lock()
	root := p.pid
	p.mu.Unlock()
	stopped := map[int]int{} // pidfds by pid
	defer func() {
		for _, fd := range stopped {
			unix.Close(fd)
		}
	}()
	err := p.signal(unix.SIGSTOP)
	for range rounds {
		if t.stopBelow(root, stopped) == 0 {
			break
		}
	}
	for _, fd := range stopped {
		unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) //nolint:errcheck // it may have ended
	}
	if kerr := p.signal(unix.SIGKILL); kerr != nil {
		return kerr
	}
	return err
}

// stopBelow stops those below root that are not stopped yet, and says how many they were.
func (t *Task) stopBelow(root int, stopped map[int]int) (found int) {
	all := t.members()
	below := descendants(all, root)
	for _, m := range all {
		if _, known := stopped[m.pid]; known || m.pid == root || !below[m.pid] {
			unix.Close(m.fd)
			continue
		}
		unix.PidfdSendSignal(m.fd, unix.SIGSTOP, nil, 0) //nolint:errcheck // it may have ended
		stopped[m.pid] = m.fd
		found++
	}
	return found
}

// members are the container's processes; their files are the caller's.
func (t *Task) members() (all []member) {
	pids, err := t.Pids()
	if err != nil {
		t.log.Warn("list processes", "container", t.id, "err", err)
	}
	for _, pid := range pids {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		m := member{pid: pid, fd: fd}
		if m.parent, m.session, err = familyOf(pid); err != nil {
			unix.Close(fd)
			continue
		}
		all = append(all, m)
	}
	return all
}

// descendants are the pids below root, and those of its session.
func descendants(all []member, root int) map[int]bool {
	below := map[int]bool{root: true}
	for grown := true; grown; {
		grown = false
		for _, m := range all {
			if !below[m.pid] && (below[m.parent] || m.session == root) {
				below[m.pid], grown = true, true
			}
		}
	}
	return below
}

// familyOf reads /proc/<pid>/stat, whose fields 4 and 6 are parent and session.
func familyOf(pid int) (parent, session int, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, 0, err
	}
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 4 {
		return 0, 0, fmt.Errorf("/proc/%d/stat is cut", pid)
	}
	if parent, err = strconv.Atoi(string(f[1])); err != nil {
		return 0, 0, err
	}
	session, err = strconv.Atoi(string(f[3]))
	return parent, session, err
}
