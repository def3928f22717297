package logger

import (
	"path/filepath"

	"gantry/api/logfile"
)

// Files says how a log is kept on disk.
type Files struct {
	Format   logfile.Format
	MaxSize  int64 // bytes; 0 never rotates
	MaxFile  int   // the current one included
	Compress bool  // of rotated files
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
