package thread_test

import (
	"testing"

	"golang.org/x/sys/unix"

	"gantry/api/thread"
)

func TestApart(t *testing.T) {
	for range 1000 {
		ran := false
		thread.Apart(func() {
			ran = true
			if unix.Gettid() == unix.Getpid() {
				t.Error("on the first thread")
			}
		})
		if !ran {
			t.Fatal("did not run")
		}
	}
}
