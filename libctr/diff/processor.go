package diff

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/api/errdefs"
	"gantry/libctr/core/diff"
)

// Processor is a program that makes a stream of one media type of a stream of another: a
// decrypter, for one. It reads standard input, writes standard output, finds the media
// type in the variable STREAM_PROCESSOR_MEDIATYPE, and its payload, a google.protobuf.Any,
// at descriptor 3, which is there only when it has one.
type Processor struct {
	ID      string // by which payloads name it
	Accepts []string
	Returns string
	Path    string
	Args    []string
	Env     []string // beside the core's own
}

// Bounds of processors.
const (
	maxProcessors = 8        // one after the other
	maxStderr     = 16 << 10 // bytes kept of what one says
	endTime       = 10 * time.Second
)

// find is the processor for a media type, nil when there is none.
func (d *Differ) find(mediaType string) *Processor {
	for i := range d.processors {
		if slices.Contains(d.processors[i].Accepts, mediaType) {
			return &d.processors[i]
		}
	}
	return nil
}

// stream is a layer on its way from the blob to the plain tar.
type stream struct {
	io.Reader
	running []*running
}

// process starts the processors that a media type needs, and returns the stream that the
// last yields, with its media type. Close must be called.
func (d *Differ) process(ctx context.Context, blob io.Reader, mediaType string, payloads map[string]diff.Payload) (*stream, string, error) {
	s := &stream{Reader: blob}
	for p := d.find(mediaType); p != nil; p = d.find(mediaType) {
		if len(s.running) == maxProcessors {
			s.Close()
			return nil, "", errdefs.InvalidArgument("more than %d stream processors one after the other", maxProcessors)
		}
		r, err := p.start(ctx, s.Reader, mediaType, payloads)
		if err != nil {
			s.Close()
			return nil, "", fmt.Errorf("start stream processor %s: %w", p.ID, err)
		}
		if n := len(s.running); n > 0 {
			s.running[n-1].out.Close() // the next one has it
		}
		s.running = append(s.running, r)
		s.Reader, mediaType = r.out, p.Returns
	}
	return s, mediaType, nil
}

// wait returns when all processors have ended, after their output has been read: one that
// failed may have done so after the last entry.
func (s *stream) wait() error {
	for _, r := range s.running {
		if err := r.wait(); err != nil {
			return err
		}
	}
	return nil
}

// explain puts what a processor said of its end before what its end has led to.
func (s *stream) explain(err error) error {
	if len(s.running) == 0 || err == nil {
		return err
	}
	s.Close()
	return errors.Join(s.wait(), err)
}

// Close ends the processors that still run.
func (s *stream) Close() {
	for _, r := range s.running {
		r.out.Close()
		r.cancel()
		<-r.done
	}
}

// running is a started processor.
type running struct {
	id     string
	out    *os.File
	cancel context.CancelFunc
	done   chan struct{} // closed when it has ended
	err    error         // how; read after done
	said   tail
}

func (p *Processor) start(ctx context.Context, in io.Reader, mediaType string, payloads map[string]diff.Payload) (*running, error) {
	ctx, cancel := context.WithCancel(ctx)
	r := &running{id: p.ID, cancel: cancel, done: make(chan struct{})}
	cmd := exec.CommandContext(ctx, p.Path, p.Args...)
	cmd.Env = append(append(os.Environ(), p.Env...), "STREAM_PROCESSOR_MEDIATYPE="+mediaType)
	cmd.Stdin, cmd.Stderr, cmd.WaitDelay = in, &r.said, endTime
	out, w, err := os.Pipe()
	if err != nil {
		cancel()
		return nil, err
	}
	defer w.Close()
	cmd.Stdout, r.out = w, out
	if payload, ok := payloads[p.ID]; ok {
		f, err := payloadFile(payload)
		if err != nil {
			cancel()
			return nil, errors.Join(err, out.Close())
		}
		defer f.Close()
		cmd.ExtraFiles = []*os.File{f}
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, errors.Join(err, out.Close())
	}
	go func() {
		defer close(r.done)
		r.err = cmd.Wait()
	}()
	return r, nil
}

// payloadFile is a pipe that yields the encoding of a payload.
func payloadFile(p diff.Payload) (*os.File, error) {
	data, err := proto.Marshal(&anypb.Any{TypeUrl: p.TypeURL, Value: p.Value})
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	go func() { // ends when all is written, or the last reader has gone
		_, _ = io.Copy(w, bytes.NewReader(data))
		w.Close()
	}()
	return r, nil
}

// wait is called when there is no more output; one that goes on for long is ended.
func (r *running) wait() error {
	select {
	case <-r.done:
	case <-time.After(endTime):
		r.cancel()
		<-r.done
	}
	if r.err == nil {
		return nil
	}
	if said := strings.TrimSpace(string(r.said.kept)); said != "" {
		return fmt.Errorf("stream processor %s: %w: %s", r.id, r.err, said)
	}
	return fmt.Errorf("stream processor %s: %w", r.id, r.err)
}

// tail keeps the end of what is written.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if over := len(t.kept) - maxStderr; over > 0 {
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
	return len(p), nil
}
