// Package stream is what the HTTP side hands to the daemon when a request turns
// into a stream: the client's ends of stdin, stdout and stderr, however they are
// framed on the wire.
package stream

import "io"

// Client is a hijacked client connection. The opener owns it and calls Close once.
type Client struct {
	// Stdin yields what the client sends; EOF is the client's half close. A read
	// error other than EOF means that the client has gone.
	Stdin io.Reader
	// Stdout and Stderr write to the client, framed when the stream is multiplexed,
	// else both to the same raw connection. Safe for concurrent use.
	Stdout, Stderr io.Writer
	// Gone is closed once the client has hung up: both directions have ended, where
	// a half close ends Stdin alone. Not every transport can tell; a failing write
	// says the same.
	Gone <-chan struct{}
	// Close ends the connection and unblocks Stdin.
	Close func() error
}

// Opener commits the HTTP answer (101 or 200 and its content type) and hands over
// the connection. Multiplexed asks for 8-byte frames (no TTY). It is called at most
// once, after everything that can still fail with a status.
type Opener func(multiplexed bool) (*Client, error)
