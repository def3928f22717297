package logger

import (
	"path/filepath"

	"gantry/api/logfile"
	"gantry/api/shimwire"
)

// Files says how a log is kept on disk.
type Files struct {
	Format   logfile.Format
	MaxSize  int64 // bytes; 0 never rotates
	MaxFile  int   // the current one included
	Compress bool  // of rotated files
}

// URI tells the shim how to keep the log at path and where to serve it.
func (s Settings) URI(path, socket string, attrs map[string]string) shimwire.LogURI {
	u := shimwire.LogURI{
		Path: path, Socket: socket, Driver: s.Driver, MaxSize: s.MaxSize, MaxFile: s.MaxFile,
		Compress: s.Compress, NonBlocking: s.NonBlocking, Buffer: s.Buffer, Attrs: attrs,
	}
	if s.Remote {
		u.Driver = Local
	}
	return u
}

// maxFiles is more than anybody keeps; without it the number might not fit on the wire.
const maxFiles = 1<<16 - 1

// Path is where the log of the container with this id is kept, in the container's
// directory and under Docker's names; "" where there is none.
func (s Settings) Path(dir, id string) string {
	switch {
	case s.Driver == None:
		return ""
	case s.Driver == JSONFile:
		return filepath.Join(dir, id+"-json.log")
	case s.Remote:
		return filepath.Join(dir, "container-cached.log")
	}
	return filepath.Join(dir, "local-logs", "container.log")
}
