package rootfs

import (
	"errors"
	"reflect"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestIDMaps(t *testing.T) {
	one := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 100000, Size: 65536}}
	two := []specs.LinuxIDMapping{{ContainerID: 0, HostID: 5, Size: 1}, {ContainerID: 1, HostID: 70, Size: 9}}
	for _, c := range []struct {
		name       string
		options    []string
		uids, gids []specs.LinuxIDMapping
		bad        bool
	}{
		{name: "none", options: []string{"index=off", "lowerdir=/a:/b"}},
		{name: "one range", options: []string{"uidmap=0:100000:65536", "gidmap=0:100000:65536"}, uids: one, gids: one},
		{name: "two in one option", options: []string{"uidmap=0:5:1,1:70:9", "gidmap=0:100000:65536"}, uids: two, gids: one},
		{name: "two options", options: []string{"uidmap=0:100000:65536", "gidmap=0:5:1", "gidmap=1:70:9"}, uids: one, gids: two},
		{name: "users without groups", options: []string{"uidmap=0:100000:65536"}, bad: true},
		{name: "two numbers", options: []string{"uidmap=0:100000", "gidmap=0:1:1"}, bad: true},
		{name: "too large", options: []string{"uidmap=0:1:1", "gidmap=0:4294967296:1"}, bad: true},
		{name: "negative", options: []string{"uidmap=0:-1:1", "gidmap=0:1:1"}, bad: true},
		{name: "empty", options: []string{"uidmap=", "gidmap=0:1:1"}, bad: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			uids, gids, err := IDMaps(Mount{Type: "overlay", Options: c.options})
			if c.bad != errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Fatalf("error %v", err)
			}
			if !reflect.DeepEqual(uids, c.uids) || !reflect.DeepEqual(gids, c.gids) {
				t.Errorf("%v and %v", uids, gids)
			}
		})
	}
}
