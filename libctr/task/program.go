package task

import (
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"gantry/api/selfexe"
)

// programs keeps a file of each shim's program that can't be written (see selfexe),
// since a container can reach the one that its shim runs from. All shims of a program
// run from the same and share its text in memory. The zero value is ready; safe for
// concurrent use.
type programs struct {
	mu    sync.Mutex
	known map[string]program // guarded by mu; by path
}

type program struct {
	*os.File
	of file
}

// lowestFD is above what a child inherits: dup2 must not hit the program.
const lowestFD = 16

// open returns a descriptor of the program, which execve closes, and otherwise the
// caller.
func (p *programs) open(path string) (int, error) {
	id, err := identify(path)
	if err != nil {
		return -1, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	have := p.known[path]
	if have.File == nil || have.of != id {
		f, err := selfexe.Open(path)
		if err != nil {
			return -1, err
		}
		if have.File != nil { // replaced by another version
			have.Close()
		}
		have = program{f, id}
		if p.known == nil {
			p.known = map[string]program{}
		}
		p.known[path] = have
	}
	return unix.FcntlInt(have.Fd(), unix.F_DUPFD_CLOEXEC, lowestFD)
}

func (p *programs) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, f := range p.known {
		f.Close()
	}
	clear(p.known)
}
