package client

import (
	"context"
	"time"

	"google.golang.org/grpc/metadata"
)

// headerWait bounds the wait for a server that sends no early header.
const headerWait = 200 * time.Millisecond

// subscribed waits until the server has answered the headers of s, which ours
// does once the subscription stands. A server that sends headers with its first
// message only is waited for no longer than headerWait.
func subscribed(ctx context.Context, s interface{ Header() (metadata.MD, error) }) {
	answered := make(chan struct{})
	go func() { // ends with the headers or the stream
		defer close(answered)
		_, _ = s.Header() // an error comes again from Recv
	}()
	wait, cancel := context.WithTimeout(ctx, headerWait)
	defer cancel()
	select {
	case <-answered:
	case <-wait.Done():
	}
}
