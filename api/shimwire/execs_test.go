package shimwire

import (
	"encoding/json"
	"strings"
	"testing"
)

// TestAppendExecs: whatever an exec is made of, it fits a frame, and none is left out.
func TestAppendExecs(t *testing.T) {
	long := strings.Repeat("\x01", MaxBody)
	list := []Exec{
		{ID: "plain", Args: []string{"true"}},
		{ID: "arguments", Args: []string{long, long}},
		{ID: "directory", Args: []string{"true"}, Cwd: long},
		{ID: "both", Args: []string{long}, Cwd: long},
		{ID: "nothing", Cwd: long},
	}
	var ids []string
	for frames := 0; len(list) > 0; frames++ {
		if frames > 5 {
			t.Fatalf("%d are left", len(list))
		}
		var frame []byte
		frame, list = appendExecs(list)
		var part wireExecs
		if err := json.Unmarshal(frame[headerSize:], &part); err != nil {
			t.Fatal(err)
		}
		if part.More != (len(list) > 0) || len(frame)-headerSize > MaxBody {
			t.Errorf("more: %t, %d bytes, %d left", part.More, len(frame), len(list))
		}
		for _, e := range part.Execs {
			ids = append(ids, e.ID)
		}
	}
	if got := strings.Join(ids, " "); got != "plain arguments directory both nothing" {
		t.Error(got)
	}
}
