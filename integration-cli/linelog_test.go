package integrationcli

import (
	"bufio"
	"io"
	"sync"
)

// lineLog collects whole lines from a reader.
type lineLog struct {
	mu    sync.Mutex
	lines []string
	done  chan struct{} // closed at the reader's end
}

// read forgets what there is and collects until r ends.
func (l *lineLog) read(r io.Reader) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines, l.done = nil, make(chan struct{})
	done := l.done
	go func() {
		defer close(done)
		for in := bufio.NewReader(r); ; {
			line, err := in.ReadString('\n')
			if err != nil {
				return // without the torn one
			}
			l.mu.Lock()
			l.lines = append(l.lines, line[:len(line)-1])
			l.mu.Unlock()
		}
	}()
}

func (l *lineLog) wait() { <-l.done }

func (l *lineLog) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines
}

func (l *lineLog) len() int { return len(l.all()) }

// end is the last line.
func (l *lineLog) end() string {
	all := l.all()
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}
