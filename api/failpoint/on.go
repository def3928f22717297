//go:build failpoint

package failpoint

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// Enabled says whether the points do anything in this build.
const Enabled = true

var (
	armed = mustParse(os.Getenv(Variable))
	mark  = os.Getenv(Mark)
	hits  atomic.Int64
)

func mustParse(text string) rule {
	r, err := parse(text)
	if err != nil {
		panic(err)
	}
	return r
}

// Hit is a point at which the process can die or wait.
func Hit(point string) { _ = Err(point) }

// Err is a point that can fail too.
func Err(point string) error {
	if point != armed.point || hits.Add(1) != armed.nth || !first() {
		return nil
	}
	switch armed.act {
	case kill:
		syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // no step further
	case sleep:
		time.Sleep(armed.pause)
	case fail:
		return fmt.Errorf("fail point %s", point)
	}
	return nil
}

// first leaves the mark; false when another process was here before.
func first() bool {
	if mark == "" {
		return true
	}
	f, err := os.OpenFile(mark, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return false
	}
	if err != nil {
		panic(fmt.Errorf("fail point %s: %w", armed.point, err))
	}
	f.Close()
	return true
}
