// Package transcript runs text files of requests and answers against an HTTP server,
// a handler with a fake backend or a live daemon, and compares. A file reads
//
//	# why this exchange is here
//	> POST /v1.44/containers/$web/exec        request line; $web is replaced by its value
//	> Content-Type: application/json          headers
//	>
//	> {"Cmd":["sh"]}                          body
//	< 201                                     status
//	< Content-Type: application/json          headers, but for those on every answer
//	<
//	< {"Id":"$exec"}                          body; values are replaced by their names
//
// and after an answer that turned into a raw stream
//
//	>> "ls\n"                                 bytes sent, quoted as in Go
//	>> EOF                                    half close
//	<< "\x01\x00\x00\x00\x00\x00\x00\x02ok"   bytes received: a line per frame, or all at once
//
// Under a comment "# shape" the values in JSON answers are shown by their types alone.
// go test -update rewrites the answers.
package transcript

import (
	"flag"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the answers in transcripts")

// Names maps names without their $ to the values they stand for.
type Names map[string]string

// Dial opens a connection to the server.
type Dial func() (net.Conn, error)

// Run runs each file that glob finds as a subtest, on one connection per exchange.
func Run(t *testing.T, dial Dial, glob string, names Names) {
	files, err := filepath.Glob(glob)
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %s %v", glob, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			runFile(t, dial, file, names)
		})
	}
}

func runFile(t *testing.T, dial Dial, file string, names Names) {
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	exchanges, tail, err := parse(string(old))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	var out strings.Builder
	for _, e := range exchanges {
		answer, err := e.perform(dial, names)
		if err != nil {
			t.Fatalf("%s: %s: %v", file, e.request[0], err)
		}
		e.print(&out, answer)
	}
	out.WriteString(tail)
	if out.String() == string(old) {
		return
	}
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	t.Errorf("%s differs; -update rewrites it\n%s", file, diff(string(old), out.String()))
}

// diff shows the lines from the first difference on, few of them.
func diff(want, got string) string {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	i := 0
	for i < len(w) && i < len(g) && w[i] == g[i] {
		i++
	}
	return "want:\n" + excerpt(w, i) + "\ngot:\n" + excerpt(g, i)
}

func excerpt(lines []string, at int) string {
	return strings.Join(lines[max(0, at-4):min(len(lines), at+6)], "\n")
}
