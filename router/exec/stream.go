package exec

import (
	"context"
	"errors"
	"fmt"
	"io"

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

// finish tells the error of a start inside the stream, as dockerd does: the docker CLI
// cannot show the text of a refused upgrade. By a status is told only what Ready tells.
func (s *startStream) finish(err error, multiplexed bool) error {
	if err == nil || errors.Is(err, context.Canceled) && !s.up.Opened() {
		return err
	}
	if s.stdout == nil {
		if _, openErr := s.open(multiplexed); openErr != nil {
			return err
		}
	}
	_, _ = fmt.Fprintf(s.stdout, "%v\r\n", err) // the client has gone: nobody to tell
	return nil
}
