package task

import (
	"bufio"
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
)

// maxLogLine bounds one line of a shim's log, in bytes; longer ones are split.
const maxLogLine = 16 << 10

// openLog opens the bundle's log fifo both ways, so that a shim finds a reader and
// this reader never sees an end before it closes the file. Bundles of other cores
// may have none; nil then.
func openLog(b *bundle) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(b.path, fileLog), os.O_RDWR|syscall.O_NONBLOCK|syscall.O_NOFOLLOW, 0)
	if os.IsNotExist(err) {
		return nil, nil
	}
	return f, err
}

// relayLog copies the shim's lines to log until f is closed.
func relayLog(f *os.File, log *slog.Logger) {
	r := bufio.NewReaderSize(f, maxLogLine)
	for {
		line, err := r.ReadSlice('\n')
		if n := len(line); n > 0 && line[n-1] == '\n' {
			line = line[:n-1]
		}
		if len(line) > 0 {
			log.LogAttrs(context.Background(), levelOf(line), "shim", slog.String("line", string(line)))
		}
		if err != nil && err != bufio.ErrBufferFull { //nolint:errorlint // as bufio returns it
			return // closed by its owner
		}
	}
}

// warnings mark what a shim warns of, and so is for the core's log too: ours, those of
// containerd in text and in JSON.
var warnings = [][]byte{
	[]byte(" level=WARN "), []byte(" level=ERROR "),
	[]byte(" level=warning "), []byte(" level=error "), []byte(" level=fatal "),
	[]byte(`"level":"warning"`), []byte(`"level":"error"`), []byte(`"level":"fatal"`),
}

// levelOf is how much a line matters.
func levelOf(line []byte) slog.Level {
	for _, mark := range warnings {
		if bytes.Contains(line, mark) {
			return slog.LevelWarn
		}
	}
	return slog.LevelDebug
}
