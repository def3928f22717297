package stdio

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/logfile"
	"gantry/api/shimwire"
)

// Keep holds the engine's ends of fifos whose other ends are a foreign shim's. What
// comes out of them goes to Output, what is written to Stdin goes in. The fifos never
// end by themselves, since both of their ends are open here: Finish ends them. On error
// nothing is left.
func Keep(f shimwire.Fifos, owner Owner) (_ *IO, err error) {
	if !shimwire.IsURI(f.Output) {
		return nil, errdefs.InvalidArgument("output %q of fifos is no log or stream uri", f.Output)
	}
	io := &IO{
		spec:    Spec{Stdin: f.Stdin, Stdout: f.Output, Stderr: f.Output, Terminal: f.Terminal},
		trouble: &warnOnce{log: owner.Log}, drained: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			io.abandon()
		}
	}()
	if io.out, err = openOutput(f.Output, owner); err != nil {
		return nil, err
	}
	outs := [3]string{logfile.Stdout: f.Stdout, logfile.Stderr: f.Stderr}
	for s, path := range outs {
		if path == "" {
			continue
		}
		if err := io.keepOutput(logfile.Stream(s), path); err != nil {
			return nil, err
		}
	}
	if err := io.keepInput(f); err != nil {
		return nil, err
	}
	io.mu.Lock()
	defer io.mu.Unlock()
	io.begin()
	return io, nil
}

func (io *IO) keepOutput(s logfile.Stream, path string) error {
	r, err := openBoth(path)
	if err != nil {
		return err
	}
	src, err := newSource(r)
	if err != nil {
		r.Close()
		return err
	}
	src.sink = outputSink{io.out, s, io.trouble}
	io.sources = append(io.sources, src)
	return nil
}

func (io *IO) keepInput(f shimwire.Fifos) error {
	if f.Stdin == "" {
		return nil
	}
	w, err := openBoth(f.Stdin)
	if err != nil {
		return err
	}
	io.stdin = new(Stdin)
	if f.Terminal { // CloseSoon must not end it
		io.keeper = w
		return io.stdin.set(w, false)
	}
	if err := io.stdin.set(w, true); err != nil {
		w.Close()
		return err
	}
	return nil
}

// Finish takes what the fifos hold and ends the output. It is for when their writers
// have ended or said all; it waits no longer than d.
func (io *IO) Finish(d time.Duration) {
	io.mu.Lock()
	io.hurry()
	for _, src := range io.sources {
		src.finishBy(time.Now())
	}
	io.mu.Unlock()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-io.drained:
	case <-timer.C:
	}
	io.abandon()
}

// openBoth opens both ends of a fifo, so that it never waits and never ends.
func openBoth(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err == nil && st.Mode&unix.S_IFMT != unix.S_IFIFO {
		unix.Close(fd)
		return nil, &os.PathError{Op: "open", Path: path, Err: errors.New("not a fifo")}
	}
	return os.NewFile(uintptr(fd), path), nil
}
