package container

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	containertypes "github.com/docker/docker/api/types/container"

	apicontainer "gantry/api/container"
	"gantry/api/shimwire"
	"gantry/daemon/stream"
)

// A client that leaves while it is connected leaves no connection.
func TestParkedLeaves(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		id := w.make(s, "web", nil)
		ctx, leave := context.WithCancel(w.t.Context())
		done := make(chan error, 1)
		go func() {
			done <- s.Attach(ctx, id, apicontainer.AttachOptions{Stdout: true, Stream: true, Open: (&client{}).open})
		}()
		synctest.Wait()
		conn := newFakeConn()
		s.Dial = func(context.Context, string, shimwire.Hello) (stream.Process, error) {
			leave()
			return conn, <-done
		}
		if err := s.Start(w.t.Context(), id, containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-conn.closed:
		default:
			t.Error("the connection of a client that has left is open")
		}
		w.end(id, 0)
	})
}

// A shim that takes no connection holds up a start once, not for each client that waits.
func TestParkedBesideSilence(t *testing.T) {
	inBubble(t, func(w *world, s *Service) {
		id := w.make(s, "web", nil)
		const clients = 20
		done := make(chan error, clients)
		for range clients {
			go func() {
				done <- s.Attach(w.t.Context(), id, apicontainer.AttachOptions{Stdout: true, Stream: true, Open: (&client{}).open})
			}()
		}
		synctest.Wait()
		s.Dial = func(ctx context.Context, _ string, _ shimwire.Hello) (stream.Process, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		begun := time.Now()
		if err := s.Start(w.t.Context(), id, containertypes.StartOptions{}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > connectTime {
			t.Errorf("the start took %v", took)
		}
		for range clients {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		w.end(id, 0)
	})
}
