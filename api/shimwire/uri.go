package shimwire

import (
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"

	"gantry/api/logfile"
)

// The schemes of a process's stdout.
const (
	SchemeLog    = "gantry-log"
	SchemeStream = "gantry-stream"
)

// Log drivers the shim knows.
const (
	DriverJSONFile = "json-file"
	DriverLocal    = "local" // and what is kept of the logs of remote drivers
	DriverNone     = "none"  // writes nothing; live readers only
)

// LogURI asks the shim for a log of the process's output and for its stream socket.
type LogURI struct {
	// Path is the absolute path of the log's current file; its folder is made.
	// Unused with DriverNone.
	Path string
	// Socket is the absolute path of the stream socket; any length.
	Socket string
	// Driver is DriverJSONFile ("" too), DriverLocal or DriverNone.
	Driver string
	// MaxSize is the size in bytes at which a file is rotated; 0 is never.
	MaxSize int64
	// MaxFile is how many files are kept, the current one included; 0 means 1.
	MaxFile int
	// Compress says that rotated files are compressed.
	Compress bool
	// NonBlocking says that output which the log can't take in time waits in memory, up
	// to Buffer bytes; what is beyond that is dropped.
	NonBlocking bool
	Buffer      int64
	// Attrs are added to each entry of the log.
	Attrs map[string]string
}

// Format is how the log's entries stand in its files.
func (u LogURI) Format() logfile.Format {
	if u.Driver == DriverLocal {
		return logfile.Local
	}
	return logfile.JSON
}

// String returns the URI.
func (u LogURI) String() string {
	q := url.Values{}
	set := func(key, value string) {
		if value != "" && value != "0" {
			q.Set(key, value)
		}
	}
	set("socket", u.Socket)
	set("driver", u.Driver)
	set("max-size", strconv.FormatInt(u.MaxSize, 10))
	set("max-file", strconv.Itoa(u.MaxFile))
	if u.Compress {
		set("compress", "true")
	}
	if u.NonBlocking {
		set("mode", "non-blocking")
		set("max-buffer-size", strconv.FormatInt(u.Buffer, 10))
	}
	if len(u.Attrs) > 0 {
		attrs, _ := json.Marshal(u.Attrs) // strings always marshal
		set("attrs", string(attrs))
	}
	return (&url.URL{Scheme: SchemeLog, Path: u.Path, RawQuery: q.Encode(), OmitHost: u.Path == ""}).String()
}

// StreamURI asks the shim for the stream socket only.
type StreamURI struct {
	Socket string // absolute path, any length
}

// String returns the URI.
func (u StreamURI) String() string {
	return (&url.URL{Scheme: SchemeStream, Path: u.Socket}).String()
}

// IsURI says whether s is one of this package's URIs.
func IsURI(s string) bool {
	return strings.HasPrefix(s, SchemeLog+":") || strings.HasPrefix(s, SchemeStream+":")
}

// ParseLogURI is the inverse of LogURI.String and checks the parts.
func ParseLogURI(s string) (LogURI, error) {
	p, err := parse(s, SchemeLog)
	if err != nil {
		return LogURI{}, err
	}
	q := p.Query()
	u := LogURI{Path: p.Path, Socket: q.Get("socket"), Driver: q.Get("driver")}
	if u.MaxSize, err = number(q.Get("max-size"), 63); err != nil {
		return LogURI{}, fmt.Errorf("max-size of log uri: %w", err)
	}
	files, err := number(q.Get("max-file"), 16)
	if err != nil {
		return LogURI{}, fmt.Errorf("max-file of log uri: %w", err)
	}
	u.MaxFile = int(files)
	u.Compress = q.Get("compress") == "true"
	u.NonBlocking = q.Get("mode") == "non-blocking"
	if u.Buffer, err = number(q.Get("max-buffer-size"), 40); err != nil {
		return LogURI{}, fmt.Errorf("max-buffer-size of log uri: %w", err)
	}
	if raw := q.Get("attrs"); raw != "" {
		if err := json.Unmarshal([]byte(raw), &u.Attrs); err != nil {
			return LogURI{}, fmt.Errorf("attrs of log uri: %w", err)
		}
	}
	return u, u.check()
}

func (u LogURI) check() error {
	switch u.Driver {
	case "", DriverJSONFile, DriverLocal:
		if !filepath.IsAbs(u.Path) {
			return fmt.Errorf("log uri: path %q is not absolute", u.Path)
		}
	case DriverNone:
	default:
		return fmt.Errorf("log uri: unknown driver %q", u.Driver)
	}
	if !filepath.IsAbs(u.Socket) {
		return fmt.Errorf("log uri: socket %q is not absolute", u.Socket)
	}
	return nil
}

// ParseStreamURI is the inverse of StreamURI.String.
func ParseStreamURI(s string) (StreamURI, error) {
	p, err := parse(s, SchemeStream)
	if err != nil {
		return StreamURI{}, err
	}
	if !filepath.IsAbs(p.Path) {
		return StreamURI{}, fmt.Errorf("stream uri: socket %q is not absolute", p.Path)
	}
	return StreamURI{Socket: p.Path}, nil
}

func parse(s, scheme string) (*url.URL, error) {
	p, err := url.Parse(s)
	if err != nil {
		return nil, err
	}
	if p.Scheme != scheme || p.Host != "" {
		return nil, fmt.Errorf("%q is not a %s uri", s, scheme)
	}
	return p, nil
}

func number(s string, bits int) (int64, error) {
	if s == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(s, 10, bits)
	return int64(n), err
}
