package failpoint

import (
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		text string
		want rule
		bad  bool
	}{
		{text: ""},
		{text: "a/b.c.d=kill", want: rule{point: "a/b.c.d", act: kill, nth: 1}},
		{text: "a=error@3", want: rule{point: "a", act: fail, nth: 3}},
		{text: "a=sleep:2s", want: rule{point: "a", act: sleep, pause: 2 * time.Second, nth: 1}},
		{text: "a=sleep:10ms@2", want: rule{point: "a", act: sleep, pause: 10 * time.Millisecond, nth: 2}},
		{text: "a", bad: true},
		{text: "=kill", bad: true},
		{text: "a=die", bad: true},
		{text: "a=kill@0", bad: true},
		{text: "a=kill@x", bad: true},
		{text: "a=sleep", bad: true},
	} {
		got, err := parse(c.text)
		if got != c.want || (err != nil) != c.bad {
			t.Errorf("parse(%q) = %+v, %v; want %+v", c.text, got, err, c.want)
		}
	}
}
