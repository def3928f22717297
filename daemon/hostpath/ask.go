package hostpath

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
)

const (
	most     = 16 // questions under way, the unanswered ones included
	maxReply = 64 << 10
)

// patience is how long a file system may take; changed by tests.
var patience = 10 * time.Second

// arg0 is the name under which the program asks a question for another.
const arg0 = "gantry-hostpath"

// installed says that Main has been called: this program can be run to ask.
var installed bool

// slots bounds the processes that may come to sleep for ever.
var slots = make(chan struct{}, most)

// Main asks one question and ends the process if it was run for that.
func Main() {
	installed = true
	if len(os.Args) != 3 || os.Args[0] != arg0 {
		return
	}
	out, err := look(os.Args[1], os.Args[2])
	var errno syscall.Errno
	if err != nil && !errors.As(err, &errno) {
		errno = unix.EIO
	}
	fmt.Printf("%d\n%s", int(errno), out)
	unix.Exit(0) // os.Exit waits a second in a program built with the race detector
}

// ask puts a question in another process if a file system is mounted that may not
// answer, and here otherwise.
func ask(ctx context.Context, op, path string) (string, error) {
	if silent, err := silentMounted(); err == nil && !silent || !installed {
		return look(op, path)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case slots <- struct{}{}:
	case <-ctx.Done():
		return "", noAnswer(ctx, op, path)
	}
	type reply struct {
		out string
		err error
	}
	done := make(chan reply, 1)
	go func() { // ends with the process, when the file system wakes it at the latest
		defer func() { <-slots }()
		out, err := aside(ctx, op, path)
		done <- reply{out, err}
	}()
	select {
	case r := <-done:
		if ctx.Err() != nil {
			return "", noAnswer(ctx, op, path)
		}
		return r.out, r.err
	case <-ctx.Done():
		return "", noAnswer(ctx, op, path)
	}
}

func noAnswer(ctx context.Context, op, path string) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	return errdefs.WithClass(errdefs.ErrUnavailable, fmt.Errorf("%s %s: the file system does not answer", verb(op), path))
}

// verb is what a question is called in errors.
func verb(op string) string {
	name, _, _ := strings.Cut(op, ":")
	return name
}

func aside(ctx context.Context, op, path string) (string, error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", op, path)
	cmd.Args[0] = arg0
	cmd.Env, cmd.Dir = []string{"GOMAXPROCS=1"}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Second
	var out bytes.Buffer
	cmd.Stdout = &limited{&out, maxReply}
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w", verb(op), path, err)
	}
	code, text, _ := strings.Cut(out.String(), "\n")
	errno, err := strconv.Atoi(code)
	if err != nil {
		return "", fmt.Errorf("%s %s: answer %.40q", verb(op), path, code)
	}
	if errno != 0 {
		return "", &fs.PathError{Op: verb(op), Path: path, Err: syscall.Errno(errno)}
	}
	return text, nil
}

// limited drops what is too much.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	_, err := l.w.Write(p[:n])
	return len(p), err
}
