// Package failpoint names the places between two effects where a crash could leave one
// without the other, so that tests can crash there.
//
// A point is a call with a constant name: the package's folder, the operation and the
// step that has just been done, as in
//
//	failpoint.Hit("daemon/container.create.directory")
//
// Without the build tag failpoint the call is nothing. With it, the environment says
// which point does what:
//
//	GANTRY_FAILPOINT=NAME=kill       the process kills itself, as kill -9 does
//	GANTRY_FAILPOINT=NAME=error      Err returns an error; Hit does nothing
//	GANTRY_FAILPOINT=NAME=sleep:2s   the call returns after two seconds
//	GANTRY_FAILPOINT=NAME=kill@3     the third time, not the first
//	GANTRY_FAILPOINT_MARK=FILE       the file is made when it happens
//
// It happens once: in a process, and with a mark in all the processes that have the
// same mark, which they inherit.
package failpoint

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Variables of the environment.
const (
	Variable = "GANTRY_FAILPOINT"
	Mark     = "GANTRY_FAILPOINT_MARK"
)

type action uint8

const (
	kill action = iota + 1
	fail
	sleep
)

// rule is what the environment asks for; the zero value is nothing.
type rule struct {
	point string
	act   action
	pause time.Duration // of sleep
	nth   int64         // which hit, from 1
}

// parse reads "NAME=ACTION[@N]"; "" is no rule.
func parse(text string) (rule, error) {
	if text == "" {
		return rule{}, nil
	}
	r := rule{nth: 1}
	var ok bool
	var how string
	if r.point, how, ok = strings.Cut(text, "="); !ok || r.point == "" {
		return rule{}, fmt.Errorf("fail point %q: not NAME=ACTION", text)
	}
	how, count, counted := strings.Cut(how, "@")
	if counted {
		n, err := strconv.ParseInt(count, 10, 64)
		if err != nil || n < 1 {
			return rule{}, fmt.Errorf("fail point %q: %q is not a count", text, count)
		}
		r.nth = n
	}
	how, pause, _ := strings.Cut(how, ":")
	switch how {
	case "kill":
		r.act = kill
	case "error":
		r.act = fail
	case "sleep":
		r.act = sleep
		var err error
		if r.pause, err = time.ParseDuration(pause); err != nil {
			return rule{}, fmt.Errorf("fail point %q: %w", text, err)
		}
	default:
		return rule{}, fmt.Errorf("fail point %q: no action %q", text, how)
	}
	return r, nil
}
