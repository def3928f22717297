package idmap

import (
	"testing"

	"gantry/api/errdefs"
	"gantry/libctr/core/snapshot"
)

func TestOwner(t *testing.T) {
	for _, c := range []struct {
		name, uids, gids string
		uid, gid         uint32
		wantUID, wantGID uint32
		refused          bool
	}{
		{name: "no mapping", uid: 5, gid: 6, wantUID: 5, wantGID: 6},
		{name: "root", uids: "0:100000:65536", gids: "0:200000:65536", wantUID: 100000, wantGID: 200000},
		{name: "second range", uids: "0:7:1,1:100000:10", gids: "0:7:1,1:100000:10", uid: 3, gid: 1, wantUID: 100002, wantGID: 100000},
		{name: "outside", uids: "0:100000:10", gids: "0:100000:10", uid: 10, refused: true},
		{name: "users alone", uids: "0:100000:10", refused: true},
		{name: "two numbers", uids: "0:100000", gids: "0:100000:1", refused: true},
		{name: "empty range", uids: "0:100000:0", gids: "0:100000:1", refused: true},
		{name: "beyond 32 bits", uids: "0:4294967295:2", gids: "0:1:1", refused: true},
		{name: "the highest", uids: "0:4294967294:2", gids: "0:1:1", uid: 1, wantUID: 4294967295, wantGID: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			labels := map[string]string{}
			if c.uids != "" {
				labels[snapshot.LabelUIDMapping] = c.uids
			}
			if c.gids != "" {
				labels[snapshot.LabelGIDMapping] = c.gids
			}
			uid, gid, err := Owner(labels, c.uid, c.gid)
			if c.refused != errdefs.IsInvalidArgument(err) {
				t.Fatalf("error %v", err)
			}
			if uid != c.wantUID || gid != c.wantGID {
				t.Errorf("%d:%d, want %d:%d", uid, gid, c.wantUID, c.wantGID)
			}
		})
	}
}
