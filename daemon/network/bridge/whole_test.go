package bridge

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestWhole(t *testing.T) {
	broken := errors.New("broken")
	for _, c := range []struct {
		why         string
		interrupted int
		err, want   error
		asked       int
	}{
		{"at once", 0, nil, nil, 1},
		{"at the third time", 2, nil, nil, 3},
		{"never", 1000, nil, nil, attempts},
		{"another failure", 1, broken, broken, 2},
	} {
		asked := 0
		all, err := whole(func() ([]int, error) {
			if asked++; asked <= c.interrupted {
				return []int{asked}, netlink.ErrDumpInterrupted
			}
			return []int{asked}, c.err
		})
		if !errors.Is(err, c.want) || asked != c.asked || len(all) != 1 || all[0] != asked {
			t.Errorf("%s: %v, %v after %d questions", c.why, all, err, asked)
		}
	}
}
