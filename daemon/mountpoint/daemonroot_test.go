package mountpoint_test

import (
	"testing"

	mounttypes "github.com/docker/docker/api/types/mount"

	"gantry/daemon/mountpoint"
)

func TestInDaemonRoot(t *testing.T) {
	const root = "/var/lib/gantry"
	for _, tc := range []struct {
		source, asked, want, err string
	}{
		{source: "/home", want: "rprivate"},
		{source: "/", want: "rslave"},
		{source: "/var", want: "rslave"},
		{source: root + "/volumes", want: "rslave"},
		{source: "/home", asked: "private", want: "private"},
		{source: "/", asked: "rshared", want: "rshared"},
		{source: "/", asked: "rslave", want: "rslave"},
		{source: root, asked: "private", err: `invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: "/var/lib/gantry", bind mount source: "/var/lib/gantry", propagation: "private"`},
		{source: "/", asked: "slave", err: `invalid mount config: must use either propagation mode "rslave" or "rshared" when mount source is within the daemon root, daemon root: "/var/lib/gantry", bind mount source: "/", propagation: "slave"`},
	} {
		m := mounttypes.Mount{Type: mounttypes.TypeBind, Source: tc.source, Target: "/x"}
		if tc.asked != "" {
			m.BindOptions = &mounttypes.BindOptions{Propagation: mounttypes.Propagation(tc.asked)}
		}
		p := mountpoint.ParseMount(m)
		err := p.InDaemonRoot(root)
		if tc.err != "" {
			if err == nil || err.Error() != tc.err {
				t.Errorf("%s %s: %v", tc.source, tc.asked, err)
			}
			continue
		}
		if err != nil || string(p.Propagation) != tc.want || p.AskedPropagation() != (tc.asked != "") {
			t.Errorf("%s %s: propagation %s (%v), want %s", tc.source, tc.asked, p.Propagation, err, tc.want)
		}
	}
	v := mountpoint.ParseMount(mounttypes.Mount{Type: mounttypes.TypeVolume, Source: "v", Target: "/x"})
	if err := v.InDaemonRoot(root); err != nil || v.Propagation != "" {
		t.Errorf("a volume: %s, %v", v.Propagation, err)
	}
}

func TestTopReadOnly(t *testing.T) {
	ro, _ := mountpoint.ParseBind("/a:/b:ro,rslave", "")
	rw, _ := mountpoint.ParseBind("/a:/b", "")
	ro.TopReadOnly()
	rw.TopReadOnly()
	if o := ro.Spec.BindOptions; !o.ReadOnlyNonRecursive || o.Propagation != "rslave" || rw.Spec.BindOptions != nil {
		t.Errorf("read-only %+v, writable %+v", o, rw.Spec.BindOptions)
	}
}
