package clients

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/need"
)

// life is what ctr says of containers and tasks.
var life = []step{
	{args: "namespaces create extra a=b"},
	{args: "namespaces label extra c=d"},
	{args: "namespaces ls"},
	{args: "namespaces rm extra"},
	{args: "images import $D/bb.tar", loose: true},
	{args: "images ls -q", want: "docker.io/library/bb:1"},
	{args: "run --rm --cgroup /clients/c0 docker.io/library/bb:1 c0 echo hello", want: "hello"},
	{args: "run --rm --cgroup /clients/c0 docker.io/library/bb:1 c0 sh -c 'exit 3'"},
	{args: "run --rm --cgroup /clients/c0 docker.io/library/bb:1 c0 nothing", loose: true},
	{args: "run --rm --cgroup /clients/c0 docker.io/library/none:1 c0 sh"},
	{args: "run -d --cgroup /clients/c1 --label k=v --env A=b docker.io/library/bb:1 c1 sleep 1000"},
	{args: "run -d docker.io/library/bb:1 c1 sleep 1000", loose: true},
	{args: "containers ls"},
	{args: "containers ls id==c1"},
	{args: "containers ls labels.k==x"},
	{args: "containers ls id=!c1", loose: true, want: `unsupported operator "=!"`},
	{args: "containers label c1 x=y", loose: true}, // a map's order
	{args: "containers info c1", loose: true, want: `"x": "y"`},
	{args: "tasks ls"},
	{args: "tasks ps c1"},
	{args: "tasks metrics c1", loose: true, want: "memory"},
	{args: "tasks exec --exec-id e1 c1 echo from exec", want: "from exec"},
	{args: "tasks exec --exec-id e1 c1 sh -c 'exit 9'"},
	{args: "tasks exec --exec-id e2 c1 cat", stdin: "through\n", want: "through"},
	{args: "tasks exec --exec-id e2 c1 nothing", loose: true},
	{args: "tasks pause c1"},
	{args: "tasks ls"},
	{args: "tasks resume c1"},
	{args: "tasks rm c1"},
	{args: "containers rm c1"},
	{args: "tasks kill -s USR1 c1"},
	{args: "tasks kill -s KILL c1"},
	{args: "tasks rm -f c1", loose: true},
	{args: "tasks rm c1"},
	{args: "tasks kill c1"},
	{args: "tasks start -d c1"},
	{args: "tasks rm -f c1", loose: true},
	{args: "containers rm c1"},
	{args: "containers rm c1"},
	{args: "containers create --cgroup /clients/c2 docker.io/library/bb:1 c2 sleep 1000"},
	{args: "tasks ls"},
	{args: "tasks start -d c2"},
	{args: "tasks rm -f c2", loose: true},
	{args: "containers rm c2"},
	{args: "run --rm --read-only --net-host --cgroup /clients/c3 --mount type=bind,src=/etc,dst=/mnt,options=rbind:ro docker.io/library/bb:1 c3 ls /mnt/hostname"},
	{args: "run --rm --memory-limit 16777216 --cgroup /clients/c4 --user 1000:50 --cwd /home docker.io/library/bb:1 c4 sh -c 'id; pwd'", want: "uid=1000"},
}

// things is what it says of images, content, snapshots and leases.
var things = []step{
	// What nothing holds goes with a collection, and that with a deletion: so it comes first.
	{args: "content ls -q"},
	{args: "content ingest --expected-size 6 some", stdin: "hello\n"},
	{args: "content ingest --expected-size 7 some", stdin: "hello\n"},
	{args: "content get sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"},
	{args: "content get sha256:0000000000000000000000000000000000000000000000000000000000000000"},
	{args: "content get nonsense"},
	{args: "content label sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03 x=y"},
	{args: "content ls labels.x==y"},
	{args: "content ls -q size=="},
	{args: "content active"},
	{args: "content rm sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"},
	{args: "content rm sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"},
	{args: "snapshots ls"},
	{args: "snapshots prepare base"},
	{args: "snapshots prepare base"},
	{args: "snapshots prepare x none"},
	{args: "snapshots commit done base"},
	{args: "snapshots commit done base"},
	{args: "snapshots prepare top done"},
	{args: "snapshots view look top", loose: true, want: "is not committed snapshot"},
	{args: "snapshots info top"},
	{args: "snapshots label done k=v", loose: true},
	{args: "snapshots info done"},
	{args: "snapshots usage -b top", loose: true},
	{args: "snapshots tree"},
	{args: "snapshots rm done"},
	{args: "snapshots diff done top", loose: true},
	{args: "snapshots rm top"},
	{args: "snapshots rm done"},
	{args: "snapshots rm done"},
	{args: "images import $D/bb.tar", loose: true},
	{args: "images ls"},
	{args: "images ls name==docker.io/library/bb:1"},
	{args: "images ls -q name~=nothing"},
	{args: "images check"},
	{args: "images tag docker.io/library/bb:1 docker.io/library/bb:2"},
	{args: "images tag docker.io/library/bb:1 docker.io/library/bb:2"},
	{args: "images tag --force docker.io/library/bb:1 docker.io/library/bb:2"},
	{args: "images tag docker.io/library/none:1 docker.io/library/bb:3"},
	{args: "images label docker.io/library/bb:2 a=b"},
	{args: "images ls"},
	{args: "images usage docker.io/library/bb:1", loose: true},
	{args: "images export $D/streamed.tar docker.io/library/bb:1 docker.io/library/bb:2"}, // containerd may cut it off
	{args: "images export --local $D/out.tar docker.io/library/bb:1 docker.io/library/bb:2"},
	{args: "images export --platform linux/s390x $D/none.tar docker.io/library/bb:1", loose: true},
	{args: "images rm docker.io/library/bb:1 docker.io/library/bb:2"},
	{args: "images rm docker.io/library/bb:2"},
	{args: "images ls"},
	{args: "images import $D/out.tar", loose: true},
	{args: "images ls"},
	{args: "images mount docker.io/library/bb:1 $D/mnt", loose: true},
	{args: "images unmount $D/mnt", loose: true},
	{args: "images unmount --rm $D/mnt", loose: true},
	{args: "images convert --oci docker.io/library/bb:1 docker.io/library/bb:oci", loose: true},
	{args: "images convert --oci --uncompress docker.io/library/bb:1 docker.io/library/bb:plain", loose: true},
	{args: "images ls"},
	{args: "images export --local $D/local.tar docker.io/library/bb:oci"},
	{args: "content ls -q", loose: true},
	{args: "images rm docker.io/library/bb:oci docker.io/library/bb:plain"},
	{args: "images import --local --index-name one $D/local.tar", loose: true},
	{args: "leases create --id l1 --label a=b --expires 1h"},
	{args: "leases create --id l1"},
	{args: "leases ls -q"},
	{args: "leases rm l1"},
	{args: "leases rm l1"},
	{args: "sandboxes ls"},
	{args: "plugins inspect-runtime", loose: true, want: "ociVersionMax"},
	{args: "images rm --sync docker.io/library/bb:1 docker.io/library/bb:2", loose: true},
}

// moving is what it says of registries.
var moving = []step{
	{args: "images pull --plain-http $R/bb:1", loose: true},
	{args: "images ls"},
	{args: "images push --plain-http $R/bb:2 $R/bb:1", loose: true},
	{args: "images rm --sync $R/bb:1"},
	{args: "images pull --local --plain-http $R/bb:2", loose: true},
	{args: "images push --local --plain-http $R/bb:3 $R/bb:2", loose: true},
	{args: "images pull --plain-http $R/bb:3", loose: true},
	{args: "images pull --plain-http $R/none:1", loose: true},
	{args: "images pull --local --plain-http $R/none:1", loose: true},
	{args: "images pull --plain-http --platform linux/s390x $R/bb:1", loose: true},
	{args: "images ls"},
	{args: "images rm --sync $R/bb:2 $R/bb:3"},
	{args: "content ls -q"},
	{args: "snapshots ls"},
}

// TestCtr tells the same with the pinned ctr to a containerd of its version and to our core.
func TestCtr(t *testing.T) {
	ctr := need.Client(t, "ctr")
	r := registry(t)
	theirs, ours := theirs(t), ours(t)
	for _, c := range []core{theirs, ours} {
		if err := os.WriteFile(filepath.Join(c.dir, "bb.tar"), busybox.Archive(t, busybox.Config{}, "docker.io/library/bb:1"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(filepath.Join(c.dir, "mnt"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, told := range []struct {
		name  string
		story []step
	}{{"things", things}, {"life", life}, {"moving", moving}} {
		story := told.story
		t.Run(told.name, func(t *testing.T) {
			a := theirs.tell(t, ctr, story, "$R", r.Host)
			b := ours.tell(t, ctr, story, "$R", r.Host)
			alike(t, story, theirs, ours, a, b)
		})
	}
}

// TestCtrOldest is what Debian's ctr, of 1.6, must be able to do.
func TestCtrOldest(t *testing.T) {
	ctr := need.Command(t, "ctr")
	r := registry(t)
	c := ours(t)
	for i, s := range []step{
		{args: "images pull --plain-http $R/bb:1", want: "done"},
		{args: "images push --plain-http $R/bb:2 $R/bb:1", want: "done"},
		{args: "run --rm --cgroup /clients/c $R/bb:1 c echo hello", want: "hello"},
		{args: "run -d --cgroup /clients/c $R/bb:1 c sleep 1000"},
		{args: "tasks exec --exec-id e c cat", stdin: "through\n", want: "through"},
		{args: "tasks rm -f c"},
		{args: "containers rm c"},
		{args: "images export $D/out.tar $R/bb:1"},
		{args: "images import $D/out.tar", want: r.Host + "/bb:1"},
		{args: "plugins ls", want: "overlayfs"},
		{args: "images rm --sync $R/bb:1", want: "bb:1"},
	} {
		got := c.tell(t, ctr, []step{s}, "$R", r.Host)[0]
		if want := map[int]int{5: 137}[i]; got.code != want && got.code != 0 {
			t.Errorf("%s: exit code %d\n%s", fmt.Sprint(s.args), got.code, got.out)
		}
	}
}
