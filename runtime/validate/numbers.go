package validate

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// MaxNumber is the highest number that a list of processors or memory nodes may have.
const MaxNumber = 1023

// Numbers is a set of numbers as the kernel's calls take it: bit n of word n/64.
type Numbers [(MaxNumber + 1) / 64]uint64

// Add adds a number up to MaxNumber.
func (s *Numbers) Add(n int) { s[n/64] |= 1 << (n % 64) }

// Has says whether a number is in.
func (s *Numbers) Has(n int) bool { return s[n/64]>>(n%64)&1 != 0 }

// ParseNumbers reads a list of numbers and ranges, "0-3, 7", as cpuset(7) has it; spaces and
// empty elements are passed over, as by runc. A list with nothing in it is nil. Class:
// InvalidArgument.
func ParseNumbers(list string) (*Numbers, error) {
	var set *Numbers
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		low, high, ranged := strings.Cut(part, "-")
		if !ranged {
			high = low
		}
		first, err := number(low)
		if err != nil {
			return nil, err
		}
		last, err := number(high)
		if err != nil {
			return nil, err
		}
		if first > last {
			return nil, fmt.Errorf("invalid range: %s: %w", clip(part), errdefs.ErrInvalidArgument)
		}
		if set == nil {
			set = new(Numbers)
		}
		for n := first; n <= last; n++ {
			set.Add(n)
		}
	}
	return set, nil
}

func number(s string) (int, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	switch {
	case err != nil:
		return 0, fmt.Errorf("%q is no number: %w", clip(s), errdefs.ErrInvalidArgument)
	case n > MaxNumber:
		return 0, fmt.Errorf("values larger than %d are not supported: %w", MaxNumber, errdefs.ErrInvalidArgument)
	}
	return int(n), nil
}

// numbers takes what ParseNumbers does, and says whether there are any.
func (c *checker) numbers(f, list string) bool {
	set, err := ParseNumbers(list)
	switch {
	case err != nil:
		c.add(f, "%q is not a list of numbers up to %d", clip(list), MaxNumber)
	case set == nil && list != "":
		c.add(f, "no members found in set %q", clip(list))
	}
	return set != nil
}
