package exec

import (
	"context"
	"errors"
	"fmt"
	"io"

	"gantry/api/errdefs"
	"gantry/api/stream"
	"gantry/router/httputil"
)

// startStream remembers where the errors of an attached start go.
type startStream struct {
	up     *httputil.Upgrade
	stdout io.Writer // nil before open
}

func (s *startStream) open(multiplexed bool) (*stream.Client, error) {
	c, err := s.up.Open(multiplexed)
	if err == nil {
		s.stdout = c.Stdout
	}
	return c, err
}

// finish tells the error of a start: inside the stream once that is open.
func (s *startStream) finish(err error, multiplexed bool) error {
	if err == nil {
		return nil
	}
	if !s.up.Opened() && inBand(err) {
		if _, openErr := s.open(multiplexed); openErr != nil {
			return err
		}
	}
	if s.stdout == nil {
		return err
	}
	_, _ = fmt.Fprintf(s.stdout, "%v\r\n", err) // the client has gone: nobody to tell
	return nil
}

// inBand says whether an error of a start that never opened its stream is told inside
// one: only what is wrong with the exec or its container is told by a status, since
// Docker's CLI cannot show the text of a refused upgrade and asks for the exit code.
func inBand(err error) bool {
	class := errdefs.Class(err)
	return !errors.Is(err, context.Canceled) && class != errdefs.ErrNotFound && class != errdefs.ErrConflict
}
