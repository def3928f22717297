package cgroup

import (
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"
)

// A counter that the kernel does not make is not looked for at each sample, but again
// after a while: a module may have brought it.
func TestRareFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		write := func(file, text string) {
			t.Helper()
			if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		const file = "blkio.test_rare"
		r := &statReader{dirOf: func(string) (string, bool) { return dir, true }}
		want := func(text string) {
			t.Helper()
			if got := r.rare("blkio", file); got != text || r.err != nil {
				t.Errorf("%q, want %q, %v", got, text, r.err)
			}
		}
		want("") // a directory that is no cgroup tells nothing of the kernel
		write(file, "1")
		want("1")
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
		write("cgroup.procs", "")
		want("")
		write(file, "2")
		want("")
		time.Sleep(lookAgain)
		want("2")
	})
}
