package checkpoint

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strings"
)

const (
	logTail  = 256 << 10 // bytes of a log that are looked at
	logLines = 3         // of errors that are told
)

// explain adds to an error what CRIU's log says last, and where it is.
func explain(err error, log string) error {
	if lines := lastErrors(log); len(lines) > 0 {
		return fmt.Errorf("%w: %s; the log is %s", err, strings.Join(lines, "; "), log)
	}
	if _, serr := os.Stat(log); serr == nil {
		return fmt.Errorf("%w; the log is %s", err, log)
	}
	return err
}

// lastErrors are the last lines of a log that are errors, without their times.
func lastErrors(log string) (lines []string) {
	f, err := os.Open(log)
	if err != nil {
		return nil
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > logTail {
		f.Seek(-logTail, io.SeekEnd)
	}
	s := bufio.NewScanner(io.LimitReader(f, logTail))
	for s.Scan() {
		if _, text, found := strings.Cut(s.Text(), "Error ("); found {
			lines = append(lines, "Error ("+strings.TrimSpace(text))
		}
	}
	return lines[max(0, len(lines)-logLines):]
}
