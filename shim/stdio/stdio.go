// Package stdio holds the shim's ends of a process's streams and copies between
// them and where the engine wants them:
//
//	""                        /dev/null
//	/path, fifo:///path       a fifo, kept open so that a dead engine closes nothing
//	file:///path              appended to
//	binary:///path?key=value  a logging process with the streams as its fds 3 and 4
//	gantry-log:…, gantry-stream:…  see api/shimwire
//
// A terminal's master stays here, and everything it shows goes to stdout's place.
package stdio

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/api/logfile"
	"gantry/api/shimwire"
	"gantry/shim/compressor"
	"gantry/shim/output"
)

// Grace is how long output is still collected after its process has ended, when
// somebody else holds the pipe; docker waits as long.
const Grace = 2 * time.Second

// Spec is where a process's streams go, in the task API's words.
type Spec struct {
	Stdin, Stdout, Stderr string
	Terminal              bool
	// LateStdin leaves a fifo of stdin closed until Begin. A client's input may be at its end
	// as soon as it is open; ctr's can tell that only when the call that makes an exec has
	// returned.
	LateStdin bool
}

// Socket returns the path of the stream socket that the spec names, "" if it names none.
func (s Spec) Socket() (string, error) {
	switch scheme(s.Stdout) {
	case shimwire.SchemeLog:
		u, err := shimwire.ParseLogURI(s.Stdout)
		return u.Socket, invalid(err)
	case shimwire.SchemeStream:
		u, err := shimwire.ParseStreamURI(s.Stdout)
		return u.Socket, invalid(err)
	}
	return "", nil
}

func invalid(err error) error { return errdefs.WithClass(errdefs.ErrInvalidArgument, err) }

// Owner says whose streams they are.
type Owner struct {
	Namespace, ID string       // of the container, for logging processes
	Log           *slog.Logger // is told, once, when output gets lost
}

// Files are the ends that the process gets: nil is /dev/null.
type Files struct {
	Stdin, Stdout, Stderr *os.File
}

// IO is the shim's side of one process. Safe for concurrent use.
type IO struct {
	spec    Spec
	trouble *warnOnce
	files   Files
	sinks   [3]sink // by stream
	out     output.Output
	stdin   *Stdin
	source  *os.File // the fifo that feeds stdin
	keeper  *os.File // the writing end of it, closed by CloseStdin
	logger  *logger

	copies  sync.WaitGroup // to the sinks
	inward  sync.WaitGroup // to stdin
	drained chan struct{}  // closed when the copies have ended

	mu      sync.Mutex
	console *os.File  // guarded by mu
	sources []*source // what is copied; guarded by mu
	begun   bool      // guarded by mu
	closed  bool      // guarded by mu
	// stdinEnded notes that a fifo of stdin that is not open yet has no keeper; guarded by mu.
	stdinEnded bool
}

// Open makes the ends of a process that does not run yet. On error nothing is left.
func Open(ctx context.Context, spec Spec, owner Owner) (_ *IO, err error) {
	io := &IO{spec: spec, trouble: &warnOnce{log: owner.Log}, drained: make(chan struct{})}
	defer func() {
		if err != nil {
			io.abandon()
		}
	}()
	if err := io.openSinks(ctx, owner); err != nil {
		return nil, err
	}
	if !spec.Terminal {
		if err := io.openPipes(); err != nil {
			return nil, err
		}
	}
	return io, io.openStdin()
}

// openSinks opens where output goes.
func (io *IO) openSinks(ctx context.Context, owner Owner) error {
	outs := [3]string{logfile.Stdout: io.spec.Stdout, logfile.Stderr: io.spec.Stderr}
	if io.spec.Terminal {
		outs[logfile.Stderr] = ""
	}
	for _, s := range []logfile.Stream{logfile.Stdout, logfile.Stderr} {
		if outs[s] == "" {
			continue
		}
		sink, err := io.openSink(ctx, s, outs[s], owner)
		if err != nil {
			return err
		}
		io.sinks[s] = sink
	}
	return nil
}

func (io *IO) openSink(ctx context.Context, s logfile.Stream, uri string, owner Owner) (sink, error) {
	switch scheme(uri) {
	case shimwire.SchemeLog, shimwire.SchemeStream:
		return io.openOutput(uri, s, owner)
	case "", "fifo":
		return openFifo(location(uri), io.trouble)
	case "file":
		return openFile(location(uri), io.trouble)
	case "binary":
		if io.logger == nil {
			l, err := startLogger(ctx, uri, owner)
			if err != nil {
				return nil, err
			}
			io.logger = l
		}
		return io.logger.sink(s, io.trouble), nil
	}
	return nil, errdefs.InvalidArgument("unknown stdio uri %q", uri)
}

func (io *IO) openOutput(uri string, s logfile.Stream, owner Owner) (sink, error) {
	if s == logfile.Stderr && uri != io.spec.Stdout {
		return nil, errdefs.InvalidArgument("stderr is not the same uri as stdout")
	}
	if io.out == nil {
		out, err := openOutput(uri, owner)
		if err != nil {
			return nil, err
		}
		io.out = out
	}
	return outputSink{io.out, s, io.trouble}, nil
}

func openOutput(uri string, owner Owner) (output.Output, error) {
	if scheme(uri) == shimwire.SchemeStream {
		return output.NewBuffer(true), nil
	}
	u, err := shimwire.ParseLogURI(uri)
	if err != nil {
		return nil, invalid(err)
	}
	return output.Open(u, output.Host{Compress: compressor.Compress, Warn: owner.Log.Warn})
}

// openPipes makes a pipe per stream that has a place to go.
func (io *IO) openPipes() error {
	ends := [3]**os.File{logfile.Stdout: &io.files.Stdout, logfile.Stderr: &io.files.Stderr}
	for s, sink := range io.sinks {
		if sink == nil {
			continue
		}
		r, w, err := pipe()
		if err != nil {
			return err
		}
		*ends[s] = w
		src, err := newSource(r)
		if err != nil {
			r.Close()
			return err
		}
		src.sink = sink
		io.sources = append(io.sources, src)
	}
	return nil
}

// openStdin makes the way in.
func (io *IO) openStdin() error {
	if io.spec.Stdin == "" {
		return nil
	}
	io.stdin = new(Stdin)
	if !io.spec.Terminal {
		r, w, err := pipe()
		if err != nil {
			return err
		}
		io.files.Stdin = r
		if err := io.stdin.set(w, true); err != nil {
			return err
		}
	}
	if shimwire.IsURI(io.spec.Stdin) {
		return nil
	}
	if sch := scheme(io.spec.Stdin); sch != "" && sch != "fifo" {
		return errdefs.InvalidArgument("stdin %q is not a fifo", io.spec.Stdin)
	}
	if io.spec.LateStdin {
		return nil
	}
	return io.openSource()
}

// openSource opens the fifo that feeds stdin.
func (io *IO) openSource() (err error) {
	io.source, io.keeper, err = openStdinFifo(location(io.spec.Stdin))
	return err
}

// Files are the process's ends. They stay the IO's, which closes them in Begin.
func (io *IO) Files() Files { return io.files }

// Spec is what Open was given.
func (io *IO) Spec() Spec { return io.spec }

// Output is what readers on the stream socket get; nil when the output goes elsewhere.
func (io *IO) Output() output.Output { return io.out }

// Stdin is the way in; nil when the process has none.
func (io *IO) Stdin() *Stdin { return io.stdin }

// Begin starts the copying, when the process has its ends. console is the
// terminal's master or nil; the IO takes it over.
func (io *IO) Begin(console *os.File) error {
	io.mu.Lock()
	defer io.mu.Unlock()
	io.closeFiles()
	if io.spec.Terminal {
		if err := io.takeConsole(console); err != nil {
			return err
		}
	}
	if io.spec.LateStdin && io.stdin != nil && !shimwire.IsURI(io.spec.Stdin) {
		if err := io.openSource(); err != nil {
			return err
		}
		if io.stdinEnded {
			io.keeper.Close()
			io.keeper = nil
		}
	}
	io.begin()
	return nil
}

// begin is called under mu.
func (io *IO) begin() {
	io.begun = true
	for _, src := range io.sources {
		io.copies.Go(src.copy)
	}
	if io.source != nil {
		io.inward.Go(io.feed)
	}
	go func() { // ends with the copies
		io.copies.Wait()
		if io.out != nil {
			io.out.End()
		}
		close(io.drained)
	}()
}

// takeConsole is called under mu.
func (io *IO) takeConsole(console *os.File) error {
	if console == nil {
		return errors.New("runtime gave no console")
	}
	src, err := newSource(console)
	if err != nil {
		console.Close()
		return err
	}
	io.console = src.file
	src.sink = io.sinks[logfile.Stdout]
	if src.sink == nil {
		src.sink = discard{}
	}
	io.sources = append(io.sources, src)
	if io.stdin != nil {
		return io.stdin.set(src.file, false)
	}
	return nil
}

// closeFiles is called under mu, or before anybody else knows the IO.
func (io *IO) closeFiles() {
	for _, f := range []*os.File{io.files.Stdin, io.files.Stdout, io.files.Stderr} {
		if f != nil {
			f.Close()
		}
	}
	io.files = Files{}
}

// Exited tells that the process has ended: its output is collected until its
// ends are closed everywhere, at most for Grace.
func (io *IO) Exited() {
	io.mu.Lock()
	defer io.mu.Unlock()
	if !io.begun {
		return
	}
	io.hurry()
	for _, src := range io.sources {
		src.finishBy(time.Now().Add(Grace))
	}
}

// hurry has an output without a log wait for nobody: its readers would hold up the exit.
func (io *IO) hurry() {
	if b, ok := io.out.(*output.Buffer); ok {
		b.Exited()
	}
}

// Drained is closed when all output has been carried to its place; after Exited
// that takes at most Grace, unless that place is full.
func (io *IO) Drained() <-chan struct{} { return io.drained }

// Resize sets the terminal's size in characters. ErrFailedPrecondition without one.
func (io *IO) Resize(width, height uint16) error {
	io.mu.Lock()
	defer io.mu.Unlock()
	if io.console == nil || io.closed {
		return errdefs.FailedPrecondition("process has no terminal")
	}
	rc, err := io.console.SyscallConn()
	if err != nil {
		return err
	}
	cerr := rc.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Col: width, Row: height})
	})
	if cerr != nil { // closed when nobody had it open any more
		return errdefs.FailedPrecondition("process has ended")
	}
	return err
}

// CloseStdin ends the process's stdin after what has been sent. A fifo ends when
// its other writers have closed it too.
func (io *IO) CloseStdin() {
	io.mu.Lock()
	defer io.mu.Unlock()
	switch {
	case io.keeper != nil:
		io.keeper.Close()
		io.keeper = nil
	case io.spec.LateStdin && !io.begun && !shimwire.IsURI(io.spec.Stdin):
		io.stdinEnded = true
	case io.stdin != nil && io.source == nil:
		io.stdin.CloseSoon()
	}
}

// Close waits for the output to reach its place until ctx is done, then frees
// everything. Readers of Output go on.
func (io *IO) Close(ctx context.Context) {
	io.mu.Lock()
	begun := io.begun
	io.mu.Unlock()
	if begun {
		select {
		case <-io.drained:
		case <-ctx.Done():
		}
	}
	io.abandon()
	io.inward.Wait()
}

// abandon closes everything at once.
func (io *IO) abandon() {
	io.mu.Lock()
	defer io.mu.Unlock()
	if io.closed {
		return
	}
	io.closed = true
	io.closeFiles()
	for _, src := range io.sources {
		src.close()
	}
	for _, s := range io.sinks {
		if s != nil {
			s.close()
		}
	}
	for _, f := range []*os.File{io.source, io.keeper} {
		if f != nil {
			f.Close()
		}
	}
	if io.stdin != nil {
		io.stdin.closeNow()
	}
	if io.logger != nil {
		io.logger.close()
	}
	if io.out != nil {
		io.out.End()
		io.out.Close()
	}
}

// scheme returns the scheme of a uri, "" for a path.
func scheme(s string) string {
	if strings.HasPrefix(s, "/") {
		return ""
	}
	name, _, ok := strings.Cut(s, ":")
	if !ok {
		return ""
	}
	return name
}

// location returns the path that a fifo or file uri, or a path, names.
func location(s string) string {
	if strings.HasPrefix(s, "/") {
		return s
	}
	if u, err := url.Parse(s); err == nil && u.Scheme != "" {
		return u.Path
	}
	return s
}

func pipe() (r, w *os.File, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return nil, nil, fmt.Errorf("pipe: %w", err)
	}
	return os.NewFile(uintptr(p[0]), "pipe"), os.NewFile(uintptr(p[1]), "pipe"), nil
}

// nonblocking returns another descriptor of f's open file, which it makes
// non-blocking, for use with deadlines.
func nonblocking(f *os.File) (*os.File, error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	cerr := rc.Control(func(old uintptr) {
		if fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			err = unix.SetNonblock(fd, true)
		}
	})
	if err = errors.Join(err, cerr); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}
