package cgroup

import (
	"context"
	"fmt"
	"strings"
)

// freezer is one directory's freezer.
type freezer interface {
	// ask begins to freeze (or asks again); done says whether all are frozen.
	ask() error
	done() (bool, error)
	thaw() error
	// asked says whether freezing is in force.
	asked() (bool, error)
}

// freezeAll waits until f is done. A v1 freezer can stay in FREEZING when a
// process forks at the wrong moment; asking anew catches the child, and thawing
// for a moment lets go what waits for something frozen.
func freezeAll(ctx context.Context, f freezer) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	var wait again
	for i := 1; ; i++ {
		if err := f.ask(); err != nil {
			return err
		}
		ok, err := f.done()
		if ok {
			return nil
		}
		if err == nil {
			err = wait.sleep(ctx)
		}
		if err != nil {
			_ = f.thaw() // the error that follows says more
			return fmt.Errorf("freeze: %w", err)
		}
		if i%50 == 0 {
			_ = f.thaw()
			_ = wait.sleep(ctx)
		}
	}
}

// v1Freezer is freezer.state.
type v1Freezer string

func (d v1Freezer) ask() error  { return writeFile(string(d), "freezer.state", "FROZEN") }
func (d v1Freezer) thaw() error { return writeFile(string(d), "freezer.state", "THAWED") }

func (d v1Freezer) done() (bool, error) {
	s, err := readFile(string(d), "freezer.state")
	return s == "FROZEN", err
}

func (d v1Freezer) asked() (bool, error) {
	s, err := readFile(string(d), "freezer.state")
	return s == "FROZEN" || s == "FREEZING", err
}

// v2Freezer is cgroup.freeze.
type v2Freezer string

func (d v2Freezer) ask() error  { return writeFile(string(d), "cgroup.freeze", "1") }
func (d v2Freezer) thaw() error { return writeFile(string(d), "cgroup.freeze", "0") }

func (d v2Freezer) done() (bool, error) {
	s, err := readFile(string(d), "cgroup.events")
	return strings.Contains(s, "frozen 1"), err
}

func (d v2Freezer) asked() (bool, error) {
	s, err := readFile(string(d), "cgroup.freeze")
	return s == "1", err
}
