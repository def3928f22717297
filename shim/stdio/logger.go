package stdio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"time"

	"gantry/api/errdefs"
	"gantry/api/logfile"
)

// logger is a logging process of containerd's binary:// protocol: stdout and
// stderr are its fds 3 and 4, and closing fd 5 says that it is ready.
type logger struct {
	proc *os.Process
	ends [3]*os.File // the writing ends, by stream
}

// loggerTimeout bounds how long a logger may take to be ready.
const loggerTimeout = 10 * time.Second

// startLogger starts the process; it is an orphan to the reaper, so the caller
// holds a guard only while this runs.
func startLogger(ctx context.Context, uri string, owner Owner) (_ *logger, err error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, invalid(err)
	}
	path, err := exec.LookPath(u.Path)
	if err != nil {
		return nil, errdefs.NotFound("logger %s: %w", u.Path, err)
	}
	l := &logger{}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
		if err != nil {
			if l.proc != nil {
				l.proc.Kill()
			}
			l.close()
		}
	}()
	for _, s := range []logfile.Stream{logfile.Stdout, logfile.Stderr} {
		r, w, err := pipe()
		if err != nil {
			return nil, err
		}
		theirs = append(theirs, r)
		l.ends[s] = w
	}
	ready, w, err := pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	theirs = append(theirs, w)
	l.proc, err = os.StartProcess(path, loggerArgs(u), &os.ProcAttr{
		Files: append([]*os.File{nil, nil, nil}, theirs...),
		Env:   append(os.Environ(), "CONTAINER_ID="+owner.ID, "CONTAINER_NAMESPACE="+owner.Namespace),
	})
	if err != nil {
		return nil, fmt.Errorf("start logger: %w", err)
	}
	w.Close()
	return l, awaitReady(ctx, ready)
}

func awaitReady(ctx context.Context, ready *os.File) error {
	poll, err := nonblocking(ready)
	if err != nil {
		return err
	}
	defer poll.Close()
	ctx, cancel := context.WithTimeout(ctx, loggerTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { poll.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	if _, err := poll.Read(make([]byte, 1)); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("logger does not become ready: %w", err)
	}
	return nil
}

// loggerArgs are key and value of each query parameter, as containerd passes them.
func loggerArgs(u *url.URL) []string {
	args := []string{u.Path}
	for key, values := range u.Query() {
		args = append(args, key)
		if len(values) > 0 && values[0] != "" {
			args = append(args, values[0])
		}
	}
	return args
}

func (l *logger) sink(s logfile.Stream, trouble *warnOnce) sink {
	return &fileSink{l.ends[s], trouble}
}

// close ends the streams; the logger ends by itself.
func (l *logger) close() {
	for _, f := range l.ends {
		if f != nil {
			f.Close()
		}
	}
	if l.proc != nil {
		l.proc.Release()
	}
}
