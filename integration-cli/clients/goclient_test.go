package clients

import (
	"strings"
	"testing"

	"gantry/internal/testutil/need"
)

// TestGoClient runs a program that stands on containerd's Go client.
func TestGoClient(t *testing.T) {
	program := need.Client(t, "coreclient")
	r := registry(t)
	theirs, ours := theirs(t), ours(t)
	for name, more := range map[string][]string{"pull": nil, "transfer": {"-transfer"}, "native": {"-snapshotter", "native"}} {
		t.Run(name, func(t *testing.T) {
			said := map[string]string{}
			for _, c := range []core{theirs, ours} {
				args := append([]string{"-address", c.socket, "-namespace", ns, "-ref", r.Host + "/bb:1", "-cgroup", "/" + ns + "/g"}, more...)
				if c == ours {
					args = append(args, "-events") // a containerd may lose some, and their order
				}
				got := c.run(t, "", program, args...)
				_, said[c.name], _ = strings.Cut(got.out, "\n") // the first line is the version
				if c == ours {
					events := "events: create start exec-added exec-started exit paused resumed exit\n"
					if !strings.Contains(got.out, events) {
						t.Errorf("no %q", events)
					}
					said[c.name] = strings.Replace(said[c.name], events, "", 1)
				}
				if got.code != 0 || !strings.Contains(got.out, "exec: from exec 7") || !strings.Contains(got.out, "updated: 67108864 true 40 1\n") || !strings.Contains(got.out, "image removed") {
					t.Errorf("%s: exit code %d\n%s", c.name, got.code, got.out)
				}
			}
			if said[theirs.name] != said[ours.name] {
				t.Errorf("containerd:\n%s\ngantry:\n%s", said[theirs.name], said[ours.name])
			}
		})
	}
}
