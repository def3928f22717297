package container

import (
	"math"
	"testing"
	"time"

	containertypes "github.com/docker/docker/api/types/container"
)

func TestStopHowBounds(t *testing.T) {
	for _, seconds := range []int{-1, 0, 10, math.MaxInt} {
		c := &Snapshot{Record: &Record{Config: &containertypes.Config{StopTimeout: &seconds}}}
		_, got, err := stopHow(c, containertypes.StopOptions{})
		if err != nil || (seconds < 0) != (time.Duration(got)*time.Second < 0) {
			t.Errorf("%d seconds: %d, %v", seconds, got, err)
		}
	}
}
