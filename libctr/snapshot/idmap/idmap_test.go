package idmap

import (
	"testing"

	"gantry/api/errdefs"
	"gantry/libctr/core/snapshot"
)

func TestInside(t *testing.T) {
	if f, err := Inside([]string{"index=off", "lowerdir=/a"}); f != nil || err != nil {
		t.Errorf("no mapping: %v", err)
	}
	f, err := Inside([]string{"uidmap=0:7:1,1:100000:10", "gidmap=0:200000:10", "index=off"})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][4]uint32{{7, 200000, 0, 0}, {100009, 200009, 10, 9}, {100010, 0, 65534, 65534}} {
		if u, g := f(c[0], c[1]); u != c[2] || g != c[3] {
			t.Errorf("%d:%d is %d:%d inside, want %d:%d", c[0], c[1], u, g, c[2], c[3])
		}
	}
	if _, err := Inside([]string{"uidmap=0:7:1"}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("users alone: %v", err)
	}
}

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
