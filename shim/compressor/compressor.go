// Package compressor compresses the rotated files of logs in a process of its own, which
// is this executable again: the tables of a compressor are as large as all that a shim
// at rest has, and it takes the processor only when nobody else wants it.
//
// The parent gives the child the file as its stdin, the place for the compressed one as
// its stdout, and the writing end of a pipe as its stderr: "ok" on that says that all is
// there, anything else is the error. The exit status is for whoever reaps it.
package compressor

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"

	"gantry/api/logfile"
)

// Action is the word on the command line that leads to Main.
const Action = "compress"

const done = "ok"

// Compress compresses src, a rotated file in the format f, into dst.
func Compress(f logfile.Format, dst, src *os.File) error {
	told, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer told.Close()
	p, err := os.StartProcess("/proc/self/exe", []string{os.Args[0], Action, f.String()}, &os.ProcAttr{
		Files: []*os.File{src, dst, w}, Env: os.Environ(),
	})
	w.Close()
	if err != nil {
		return fmt.Errorf("start compressor: %w", err)
	}
	text, err := io.ReadAll(io.LimitReader(told, 4<<10))
	p.Wait() //nolint:errcheck // a reaper may have been first
	switch {
	case err != nil:
		return err
	case string(text) != done:
		return fmt.Errorf("compressor: %q", strings.TrimSpace(string(text)))
	}
	return nil
}

// Main is the child. It returns the exit status.
func Main(args []string) int {
	err := run(args)
	if err != nil {
		fmt.Fprint(os.Stderr, err)
		return 1
	}
	fmt.Fprint(os.Stderr, done)
	return 0
}

func run(args []string) error {
	if len(args) != 1 {
		return errors.New("want the format")
	}
	f := logfile.JSON
	if args[0] == logfile.Local.String() {
		f = logfile.Local
	}
	runtime.LockOSThread()
	unix.Setpriority(unix.PRIO_PROCESS, 0, 19) //nolint:errcheck // as fast as the others then
	return f.Compress(os.Stdout, os.Stdin)
}
