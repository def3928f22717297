// Package filter reads the filters of a request as Docker does. All of it is pure;
// every error is an InvalidArgument in Docker's words.
package filter

import (
	"strings"
	"time"

	"github.com/docker/docker/api/types/filters"
	timetypes "github.com/docker/docker/api/types/time"

	"gantry/api/errdefs"
)

// Accept refuses names that are not among keys: "invalid filter 'colour'".
func Accept(f filters.Args, keys ...string) error {
	accepted := make(map[string]bool, len(keys))
	for _, k := range keys {
		accepted[k] = true
	}
	return errdefs.WithClass(errdefs.ErrInvalidArgument, f.Validate(accepted))
}

// Bool reads a filter that is true or false, def when it is absent. Values that
// contradict each other or are neither are refused: "invalid filter 'dangling=[maybe]'".
func Bool(f filters.Args, key string, def bool) (bool, error) {
	v, err := f.GetBoolOrDefault(key, def)
	return v, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
}

// Until reads the until filter of a prune: a time stamp, a date or an age before now.
// The zero time means that there is none.
func Until(f filters.Args, now time.Time) (time.Time, error) {
	values := f.Get("until")
	switch {
	case !f.Contains("until"):
		return time.Time{}, nil
	case len(values) > 1:
		return time.Time{}, errdefs.InvalidArgument("more than one until filter specified")
	case len(values) == 0:
		return time.Time{}, errdefs.InvalidArgument("invalid filter 'until'")
	}
	return Timestamp(values[0], now)
}

// Timestamp reads what --since, --until and their like take: seconds since 1970 with
// a fraction, RFC 3339 in part or whole, or a duration before now.
func Timestamp(v string, now time.Time) (time.Time, error) {
	ts, err := timetypes.GetTimestamp(v, now)
	if err != nil {
		return time.Time{}, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	sec, nano, err := timetypes.ParseTimestamps(ts, 0)
	if err != nil {
		return time.Time{}, errdefs.WithClass(errdefs.ErrInvalidArgument, err)
	}
	return time.Unix(sec, nano), nil
}

// Labels says whether labels have all that label asks for, and not all that label!
// names.
func Labels(f filters.Args, labels map[string]string) bool {
	if !f.MatchKVList("label", labels) {
		return false
	}
	return !f.Contains("label!") || !f.MatchKVList("label!", labels)
}

// Name says whether one of names matches the filter key: equal to a value, or matched
// by it as a regular expression, with or without the leading slash. True without the
// filter.
func Name(f filters.Args, key string, names ...string) bool {
	if !f.Contains(key) {
		return true
	}
	for _, n := range names {
		if f.Match(key, n) || f.Match(key, strings.TrimPrefix(n, "/")) {
			return true
		}
	}
	return false
}
