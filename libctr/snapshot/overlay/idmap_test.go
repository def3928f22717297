package overlay_test

import (
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"gantry/api/errdefs"
	"gantry/libctr/core/mount"
	"gantry/libctr/core/snapshot"
)

// TestMappedIDs: labels give the upper directory to the host's root of the container, and
// tell who mounts the snapshot to map what is below.
func TestMappedIDs(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: changes owners")
	}
	s := open(t, t.TempDir())
	must := func(m []mount.Mount, err error) mount.Mount {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return m[0]
	}
	base := must(s.Prepare(t.Context(), "base", "", nil))
	if err := os.Chown(base.Source, 5, 6); err != nil {
		t.Fatal(err)
	}
	if err := s.Commit(t.Context(), "layer", "base", nil); err != nil {
		t.Fatal(err)
	}
	labels := map[string]string{
		snapshot.LabelUIDMapping: "0:100000:65536", snapshot.LabelGIDMapping: "0:200000:65536",
	}
	must(s.Prepare(t.Context(), "own", "layer", labels))
	m := must(s.Mounts(t.Context(), "own"))
	for _, want := range []string{"uidmap=0:100000:65536", "gidmap=0:200000:65536"} {
		if !slices.Contains(m.Options, want) {
			t.Errorf("no %s among %v", want, m.Options)
		}
	}
	i := slices.IndexFunc(m.Options, func(o string) bool { return strings.HasPrefix(o, "upperdir=") })
	fi, err := os.Stat(strings.TrimPrefix(m.Options[i], "upperdir="))
	if err != nil {
		t.Fatal(err)
	}
	if st := fi.Sys().(*syscall.Stat_t); st.Uid != 100005 || st.Gid != 200006 {
		t.Errorf("the upper directory belongs to %d:%d", st.Uid, st.Gid)
	}
	if other := must(s.Prepare(t.Context(), "other", "layer", nil)); slices.ContainsFunc(other.Options, func(o string) bool { return strings.HasPrefix(o, "uidmap=") }) {
		t.Errorf("a mapping that nobody asked for: %v", other.Options)
	}
	for name, bad := range map[string]map[string]string{
		"users alone": {snapshot.LabelUIDMapping: "0:1:1"},
		"not mapped":  {snapshot.LabelUIDMapping: "0:1:1", snapshot.LabelGIDMapping: "0:1:1"}, // the layer's owner
	} {
		if _, err := s.Prepare(t.Context(), "bad", "layer", bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
