package integrationcli

import (
	"strings"
	"testing"

	"gantry/internal/testutil/engine"
)

// TestChanges is docker diff of a container that runs and of the same when it is down, on
// both snapshotters. The lists are dockerd's, but that the entries of a directory come by
// name, and what was deleted from it last.
func TestChanges(t *testing.T) {
	t.Parallel()
	for _, driver := range []string{"overlayfs", "native"} {
		t.Run(driver, func(t *testing.T) {
			e := start(t, "--storage-driver", driver)
			changesOf(t, e)
		})
	}
}

func changesOf(t *testing.T, e *engine.Engine) {
	e.Must("run", "-d", "--name", "plain", image, "sleep", "1000")
	if got := e.Must("diff", "plain"); got != "" {
		t.Errorf("a container that has done nothing: %q", got)
	}
	e.Must("run", "-d", "--name", "cc", "-v", "/vol/data", "--tmpfs", "/mem", image, "sleep", "1000")
	e.Must("exec", "cc", "sh", "-c", strings.Join([]string{
		"touch /vol/data/unseen /mem/unseen",
		"rm -r /home",                                    // an opaque directory
		"mkdir -p /home/new; touch /home/new/f",          //
		"rm -r /www; touch /www",                         // a file for a directory
		"rm /bin/acpid; mkdir /bin/acpid; >/bin/acpid/x", // and the reverse
		"chmod 700 /tmp",                                 // metadata of a directory
		"chown 5 /etc/group",                             // and of a file
		"cat /etc/passwd >/tmp/copy; cat /tmp/copy >/etc/passwd",
		"ln -s nowhere /root/link; mkfifo /root/fifo; mknod /root/null c 1 3",
		"mkdir -p /var/a/b; rm -r /var/a", // gone again
		"touch -r /bin/sh /bin/sh",        // copied up, and the same as before
		"rm /.dockerenv",
	}, "\n"))
	want := strings.TrimSpace(`
C /bin
C /bin/acpid
A /bin/acpid/x
C /etc
C /etc/group
C /etc/passwd
C /home
A /home/new
A /home/new/f
D /home/tester
A /mem
C /root
A /root/fifo
A /root/link
A /root/null
C /tmp
A /tmp/copy
A /vol
A /vol/data
C /www
D /.dockerenv
`)
	for _, state := range []string{"running", "stopped"} {
		if got := e.Must("diff", "cc"); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", state, got, want)
		}
		e.Docker("kill", "cc")
	}
	try(t, e, []row{{name: "no container", args: []string{"diff", "nope"}, code: 1, err: "Error response from daemon: No such container: nope"}})
	if status, text, err := ask(e, "GET", "/containers/plain/changes", nil); err != nil || status != 200 || strings.TrimSpace(text) != "null" {
		t.Errorf("nothing changed: %d %q %v", status, text, err)
	}
}
