package attack_test

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestPasswd: the image's /etc/passwd, which the runtime reads for HOME, is of any kind
// and size, and neither stops a start nor leads out of the root. (CVE-2016-3697, a name
// that is a number, concerns who looks names up: the engine. Here a name of digits is
// taken for what it is.)
func TestPasswd(t *testing.T) {
	long := strings.Repeat("x", 1<<20)
	for name, c := range map[string]struct {
		write func(path string) error
		home  string
	}{
		"a name of digits":   {text("0:x:77:0::/evil:\nroot:x:0:0::/right:/bin/sh\n"), "/right"},
		"an endless line":    {text(long + long), "/"},
		"a long home":        {text("root:x:0:0::/" + strings.Repeat("y", 5000) + ":\n"), "/"},
		"no lines":           {text("\x00\x00\n:::::\n\n"), "/"},
		"a number too large": {text("a:x:18446744073709551616:0::/evil:\nb:x:4294967296:0::/evil:\n"), "/"},
		"a hole of a terabyte": {func(p string) error {
			if err := os.WriteFile(p, nil, 0o644); err != nil {
				return err
			}
			return os.Truncate(p, 1<<40)
		}, "/"},
		"a pipe":               {func(p string) error { return unix.Mkfifo(p, 0o644) }, "/"},
		"a directory":          {func(p string) error { return os.Mkdir(p, 0o755) }, "/"},
		"a link to the host":   {func(p string) error { return os.Symlink("../../../../../../../etc/passwd", p) }, "/"},
		"a link by descriptor": {func(p string) error { return os.Symlink("/proc/self/fd/0", p) }, "/"},
		"an endless device":    {func(p string) error { return unix.Mknod(p, unix.S_IFCHR|0o644, int(unix.Mkdev(1, 5))) }, "/"},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGround(t)
			b := g.box("box", "sh", "-c", "echo $HOME")
			path := b.rootfs() + "/etc/passwd"
			os.Remove(path)
			if err := c.write(path); err != nil {
				t.Fatal(err)
			}
			if out := b.mustRun(); out != c.home+"\n" {
				t.Errorf("%q, want %q", out, c.home)
			}
		})
	}
}

func text(s string) func(string) error {
	return func(path string) error { return os.WriteFile(path, []byte(s), 0o644) }
}
