// Package shimwire is what the engine and its own shim say to each other beside
// the task API: where a process's output goes, and the stream socket.
//
// # URIs
//
// The task's (or exec's) stdout is one of
//
//	gantry-log:///path/of/log?socket=/path/of/socket&driver=json-file&max-size=BYTES&max-file=N&attrs=JSON
//	gantry-stream:///path/of/socket
//
// The first keeps a log (see api/logfile) and serves live readers, the second
// serves live readers only. stderr is the same text, or "" for /dev/null; stdin
// is the same text when it is to be open, or "". With a terminal everything the
// terminal shows is stdout.
//
// # The stream socket
//
// There is one unix socket per container, at the path that its URI names. It is
// there before Create answers and goes with Delete. Frames go both ways:
//
//	0      1        2           4            8
//	kind   stream   0 0         length       body (length bytes)
//
// with numbers in big endian. A position is 24 bytes: generation, offset, and the
// two skips (8+8+4+4). The client speaks first:
//
//	client                                   shim
//	Hello {JSON}                        →
//	                                    ←    Welcome position | Error {JSON}
//	Stdin bytes … CloseStdin            →
//	                                    ←    Data position, unix nanoseconds (8), bytes
//	                                    ←    Gap position
//	                                    ←    End position; the shim closes
//
// or
//
//	Ports {JSON}, with descriptors      →    repeated while "more" is set
//	                                    ←    OK | Error {JSON}
//	Release                             →
//	                                    ←    OK | Error {JSON}
//
// or, to a keeper (shim/keeper), which serves the same socket for a container whose
// shim is not ours,
//
//	Fifos {JSON}                        →
//	                                    ←    OK | Error {JSON}
//	EndFifos {JSON}                     →    the init's ends the keeper
//	                                    ←    OK | Error {JSON}
//
// or
//
//	Prober {JSON: a process}            →
//	                                    ←    OK | Error {JSON}
//	Run {JSON: Probe}                   →    repeated, after the answer to the one before
//	                                    ←    Ran status (4), unix nanoseconds (8), flags (1), output | Error {JSON}
//
// or
//
//	Execs                               →    again, where there are more
//	                                    ←    ExecList {JSON} | Error {JSON}
//
// The position of a frame is that after it. A client may come at any time
// between Create (or Exec) and Delete, also before the start and after the exit.
// Losing a client changes nothing for the process: its stdin ends by CloseStdin
// or by the task API's CloseIO only.
package shimwire

import (
	"time"

	"gantry/api/logfile"
)

// Position is a place in the output of a process; see logfile.Position. For a
// process without a log, Generation is 0 and Offset counts bytes of output.
type Position = logfile.Position

// Kind tells what a frame is.
type Kind uint8

// What the shim sends after Welcome; the numbers are the wire's.
const (
	// Data is output of the process.
	Data Kind = 0x11
	// Gap says that output between the last frame's position and this one's has
	// been lost to this reader: rotated away, or dropped from a buffer. See Frame.First.
	Gap Kind = 0x12
	// End says that there is no more: the process has ended and its output is drained.
	End Kind = 0x13
)

const (
	kindHello      Kind = 0x01
	kindStdin      Kind = 0x02
	kindCloseStdin Kind = 0x03
	kindPorts      Kind = 0x04
	kindRelease    Kind = 0x05
	kindFifos      Kind = 0x06
	kindEndFifos   Kind = 0x07
	kindProber     Kind = 0x08
	kindRun        Kind = 0x09
	kindExecs      Kind = 0x0a
	kindWelcome    Kind = 0x10
	kindRan        Kind = 0x14
	kindExecList   Kind = 0x15
	kindOK         Kind = 0x1e
	kindError      Kind = 0x1f
)

// Frame is one message from the shim.
type Frame struct {
	Kind   Kind
	Stream logfile.Stream // of Data
	// Data is valid until the next Read.
	Data []byte
	// Time is when the shim read the data, for Data; in a reading of lines that
	// of the log's entry.
	Time time.Time
	// Pos is the position after the frame.
	Pos Position
}

// Hello opens a stream.
type Hello struct {
	// Proc is the exec id; "" is the init.
	Proc string `json:"proc,omitempty"`
	// Stdin, Stdout and Stderr say what the client wants to write and to read.
	Stdin  bool `json:"stdin,omitempty"`
	Stdout bool `json:"stdout,omitempty"`
	Stderr bool `json:"stderr,omitempty"`
	// From is where to begin; nil is from now on. A process without a log first
	// gives what it still holds and nobody has read, also with nil.
	From *Position `json:"from,omitempty"`
	// Lines asks for whole entries of the log with their times, as docker logs
	// shows them, instead of bytes as soon as they come. Such a reader never
	// holds up the process: when rotation drops what it has not read, it gets a
	// Gap. A reader of bytes instead delays the rotation that would drop them.
	Lines bool `json:"lines,omitempty"`
}

// wireError is the body of an Error frame.
type wireError struct {
	Class string `json:"class,omitempty"`
	Text  string `json:"text"`
}

// wirePorts is the body of a Ports frame; its descriptors follow in order.
type wirePorts struct {
	Ports []wirePort `json:"ports"`
	More  bool       `json:"more,omitempty"`
}

type wirePort struct {
	Proto string `json:"proto"`
	Relay string `json:"relay,omitempty"`
}
