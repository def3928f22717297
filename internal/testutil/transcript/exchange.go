package transcript

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"gantry/api/rest"
)

// exchange is one request, with the lines it is printed by.
type exchange struct {
	before  []string // comments and empty lines
	request []string // without "> "
	sends   []string // without ">> "
	told    []string // the answer as it stands in the file
	shaped  bool     // see shape
}

// requestLine begins an exchange, whether or not the one before has been answered yet.
var requestLine = regexp.MustCompile(`^> [A-Z]+ [/*]`)

func parse(text string) (out []exchange, tail string, err error) {
	var e exchange
	answered, shapes := false, false
	flush := func() {
		if len(e.before) > 0 { // what it says holds for the exchanges that follow closely
			shapes = slices.Contains(e.before, shaped+"\n")
		}
		if e.shaped = shapes; len(e.request) > 0 {
			out = append(out, e)
		}
		e, answered = exchange{}, false
	}
	for _, line := range strings.SplitAfter(text, "\n") {
		bare := strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(bare, ">> "):
			e.sends = append(e.sends, bare[3:])
		case strings.HasPrefix(bare, "<"):
			answered = true
			e.told = append(e.told, bare)
		case bare == ">" || strings.HasPrefix(bare, "> "):
			if answered || requestLine.MatchString(bare) && len(e.request) > 0 {
				flush()
			}
			e.request = append(e.request, strings.TrimPrefix(strings.TrimPrefix(bare, ">"), " "))
		case bare == "" && line == "":
		case bare == "" || strings.HasPrefix(bare, "#"):
			if len(e.request) > 0 {
				flush()
			}
			e.before = append(e.before, line)
		default:
			return nil, "", fmt.Errorf("bad line %q", bare)
		}
	}
	if len(e.request) == 0 {
		tail = strings.Join(e.before, "")
	}
	flush()
	return out, tail, nil
}

func (e exchange) print(w *strings.Builder, a answer) {
	for _, line := range e.before {
		w.WriteString(line)
	}
	prefixed(w, ">", e.request)
	prefixed(w, "<", a.lines)
	prefixed(w, ">>", e.sends)
	prefixed(w, "<<", a.raw)
}

func prefixed(w *strings.Builder, prefix string, lines []string) {
	for _, l := range lines {
		w.WriteString(strings.TrimRight(prefix+" "+l, " ") + "\n")
	}
}

type answer struct {
	lines []string // status, headers, body
	raw   []string // what came on a raw stream
}

// patience bounds one exchange.
const patience = 20 * time.Second

func (e exchange) perform(dial Dial, names Names) (answer, error) {
	conn, err := dial()
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	method, raw := e.wire(names)
	if _, err := conn.Write(raw); err != nil {
		return answer{}, err
	}
	br := bufio.NewReader(conn)
	res, err := http.ReadResponse(br, &http.Request{Method: method})
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return answer{lines: []string{"broken off"}}, nil
	}
	if err != nil {
		return answer{}, fmt.Errorf("read answer: %w", err)
	}
	defer res.Body.Close()
	a := answer{lines: append([]string{strconv.Itoa(res.StatusCode)}, headerLines(res.Header)...)}
	if len(e.sends) > 0 || isRaw(res) {
		a.raw, err = e.stream(conn, br, res)
	} else {
		err = a.readBody(res)
	}
	if e.shaped {
		a.lines = shape(a.lines)
	}
	names.hide(a.lines)
	return a, err
}

// wire is the request as bytes. A body gets its length.
func (e exchange) wire(names Names) (method string, raw []byte) {
	head, body := e.request, []string(nil)
	if i := slices.Index(e.request, ""); i >= 0 {
		head, body = e.request[:i], e.request[i+1:]
	}
	text := names.reveal(strings.Join(body, "\n"))
	method, _, _ = strings.Cut(head[0], " ")
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s HTTP/1.1\r\nHost: engine\r\n", names.reveal(head[0]))
	for _, h := range head[1:] {
		fmt.Fprintf(&b, "%s\r\n", names.reveal(h))
	}
	if body != nil && !strings.Contains(strings.ToLower(strings.Join(head, "\n")), "\ntransfer-encoding:") {
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(text))
	}
	b.WriteString("\r\n" + text)
	return method, b.Bytes()
}

// everywhere are the headers that every answer carries, or that are the transport's.
var everywhere = []string{"Api-Version", "Docker-Experimental", "Ostype", "Server", "Date", "Content-Length", "Connection", "Upgrade"}

func headerLines(h http.Header) []string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(h)) {
		if !slices.Contains(everywhere, k) {
			out = append(out, k+": "+strings.Join(h[k], ", "))
		}
	}
	for _, k := range everywhere[:4] {
		if h.Get(k) == "" {
			out = append(out, k+" is missing")
		}
	}
	return out
}

func isRaw(res *http.Response) bool {
	return res.StatusCode == http.StatusSwitchingProtocols
}

func (a *answer) readBody(res *http.Response) error {
	body, err := io.ReadAll(res.Body)
	if err != nil {
		a.lines = append(a.lines, "broken off")
	}
	if len(body) == 0 {
		return nil
	}
	kind := res.Header.Get("Content-Type")
	if !strings.HasPrefix(kind, "application/json") && !strings.HasPrefix(kind, "text/") {
		a.raw = quoted(body)
		return nil
	}
	text := strings.ReplaceAll(strings.TrimSuffix(string(body), "\n"), "\r", "")
	a.lines = append(append(a.lines, ""), strings.Split(text, "\n")...)
	return nil
}

// stream speaks on a connection that has left HTTP. A 200 without a length has its
// raw bytes in the body's place.
func (e exchange) stream(conn net.Conn, br *bufio.Reader, res *http.Response) ([]string, error) {
	for _, s := range e.sends {
		if s == "EOF" {
			if err := conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				return nil, err
			}
			continue
		}
		data, err := strconv.Unquote(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s, err)
		}
		if _, err := io.WriteString(conn, data); err != nil {
			return nil, err
		}
	}
	var src io.Reader = br
	switch {
	case !isRaw(res):
		src = res.Body
	case strings.EqualFold(res.Header.Get("Upgrade"), "websocket"):
		return webSocket(conn, br)
	}
	got, err := io.ReadAll(src)
	return quoted(got), err
}

// quoted shows bytes, a line per frame where they are frames.
func quoted(b []byte) []string {
	var out []string
	for r := bytes.NewReader(b); r.Len() > 0; {
		start := len(b) - r.Len()
		if _, err := rest.ReadFrame(r, len(b)); err != nil {
			return []string{strconv.Quote(string(b))}
		}
		out = append(out, strconv.Quote(string(b[start:len(b)-r.Len()])))
	}
	return out
}

// reveal puts values for names; longer names first, so that $web2 is not $web.
func (n Names) reveal(s string) string {
	for _, name := range n.longestFirst() {
		s = strings.ReplaceAll(s, "$"+name, n[name])
	}
	return s
}

func (n Names) hide(lines []string) {
	for i := range lines {
		for _, name := range n.longestFirst() {
			lines[i] = strings.ReplaceAll(lines[i], n[name], "$"+name)
		}
	}
}

func (n Names) longestFirst() []string {
	return slices.SortedFunc(maps.Keys(n), func(a, b string) int {
		if len(a) != len(b) {
			return len(b) - len(a)
		}
		return strings.Compare(a, b)
	})
}
