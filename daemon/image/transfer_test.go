package image

import (
	"testing"

	"github.com/opencontainers/go-digest"
)

// A transfer that has ended lets nobody go without the blob held for him, also when one
// pull has left as another came.
func TestTransferNewcomer(t *testing.T) {
	ts := &transfers{by: map[digest.Digest]*transfer{}}
	left, came := &waiter{lease: "left"}, &waiter{lease: "came"}
	x := &transfer{waiters: map[*waiter]struct{}{left: {}}}
	seen := map[string]bool{"": true}
	for _, w := range ts.waiting(x) {
		seen[w.lease] = true
	}
	delete(x.waiters, left)
	x.waiters[came] = struct{}{}
	if ts.end(x, seen) {
		t.Error("ended with a pull that holds nothing")
	}
	seen["came"] = true
	if !ts.end(x, seen) {
		t.Error("not ended")
	}
}
