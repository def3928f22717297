package sink

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/tinylib/msgp/msgp"
	"golang.org/x/sys/unix"
)

// Syslog receives messages that end in newlines, or are datagrams, or with conf are
// spoken by TLS, there also counted ones. addr "" is any.
func Syslog(t testing.TB, network, addr string, conf *tls.Config) *Sink {
	t.Helper()
	s := newSink(t, network, anyPort(network, addr), conf)
	s.packet = func(s *Sink, p, _ []byte) { s.add(Message{Text: strings.TrimSuffix(string(p), "\n")}) }
	s.decode = func(s *Sink, c net.Conn, number int) {
		r := bufio.NewReader(c)
		for {
			text, err := syslogMessage(r)
			if err != nil {
				return
			}
			s.add(Message{Text: text, Conn: number})
		}
	}
	s.Open(t)
	return s
}

func anyPort(network, addr string) string {
	if addr == "" && (network == "tcp" || network == "udp") {
		return "127.0.0.1:0"
	}
	return addr
}

func syslogMessage(r *bufio.Reader) (string, error) {
	first, err := r.Peek(1)
	if err != nil {
		return "", err
	}
	if first[0] == '<' {
		text, err := r.ReadString('\n')
		return strings.TrimSuffix(text, "\n"), err
	}
	count, err := r.ReadString(' ')
	if err != nil {
		return "", err
	}
	n, err := strconv.Atoi(strings.TrimSpace(count))
	if err != nil {
		return "", err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(r, b)
	return "counted " + strings.TrimSuffix(string(b), "\n"), err
}

// Fluentd receives by the forward protocol and acknowledges what asks for it.
func Fluentd(t testing.TB, network, addr string, conf *tls.Config) *Sink {
	t.Helper()
	s := newSink(t, network, anyPort(network, addr), conf)
	s.decode = func(s *Sink, c net.Conn, number int) {
		r := msgp.NewReader(c)
		for {
			m, chunk, err := fluentdMessage(r)
			if err != nil {
				return
			}
			m.Conn = number
			s.add(m)
			if chunk != "" && !s.Mute.Load() {
				ack := msgp.AppendString(msgp.AppendString(msgp.AppendMapHeader(nil, 1), "ack"), chunk)
				if _, err := c.Write(ack); err != nil {
					return
				}
			}
		}
	}
	s.Open(t)
	return s
}

func fluentdMessage(r *msgp.Reader) (m Message, chunk string, err error) {
	all, err := r.ReadIntf()
	if err != nil {
		return m, "", err
	}
	list, ok := all.([]any)
	if !ok || len(list) != 4 {
		return m, "", fmt.Errorf("not a message: %v", all)
	}
	m.Tag, _ = list[0].(string)
	m.Fields = map[string]string{}
	switch at := list[1].(type) {
	case int64:
		m.Fields["@seconds"] = strconv.FormatInt(at, 10)
	case *msgp.RawExtension:
		m.Time = time.Unix(int64(binary.BigEndian.Uint32(at.Data)), int64(binary.BigEndian.Uint32(at.Data[4:])))
	case msgp.RawExtension:
		m.Time = time.Unix(int64(binary.BigEndian.Uint32(at.Data)), int64(binary.BigEndian.Uint32(at.Data[4:])))
	default:
		return m, "", fmt.Errorf("time is a %T", at)
	}
	record, _ := list[2].(map[string]any)
	for k, v := range record {
		m.Fields[k] = fmt.Sprint(v)
	}
	m.Text = m.Fields["log"]
	if options, ok := list[3].(map[string]any); ok {
		chunk, _ = options["chunk"].(string)
	}
	return m, chunk, nil
}

// GELF receives by "udp", where it puts chunks together and decompresses, or "tcp".
// Field "@packing" says how a datagram was packed, "@chunks" of how many it was made.
func GELF(t testing.TB, network, addr string) *Sink {
	t.Helper()
	s := newSink(t, network, anyPort(network, addr), nil)
	parts := map[string][][]byte{}
	s.packet = func(s *Sink, p, _ []byte) {
		chunks := 1
		if bytes.HasPrefix(p, []byte{0x1e, 0x0f}) && len(p) > 12 {
			id := string(p[2:10])
			chunks = int(p[11])
			if parts[id] == nil {
				parts[id] = make([][]byte, chunks)
			}
			parts[id][p[10]] = bytes.Clone(p[12:])
			for _, c := range parts[id] {
				if c == nil {
					return
				}
			}
			p = bytes.Join(parts[id], nil)
			delete(parts, id)
		}
		s.addGELF(p, chunks)
	}
	s.decode = func(s *Sink, c net.Conn, _ int) {
		for r := bufio.NewReader(c); ; {
			b, err := r.ReadBytes(0)
			if err != nil {
				return
			}
			s.addGELF(b[:len(b)-1], 0)
		}
	}
	s.Open(t)
	return s
}

func (s *Sink) addGELF(p []byte, chunks int) {
	packing := "none"
	var r io.Reader
	var err error
	switch {
	case bytes.HasPrefix(p, []byte{0x1f, 0x8b}):
		packing = "gzip"
		r, err = gzip.NewReader(bytes.NewReader(p))
	case bytes.HasPrefix(p, []byte{0x78}):
		packing = "zlib"
		r, err = zlib.NewReader(bytes.NewReader(p))
	default:
		r = bytes.NewReader(p)
	}
	var fields map[string]any
	if err == nil {
		d := json.NewDecoder(r)
		d.UseNumber()
		err = d.Decode(&fields)
	}
	m := Message{Fields: map[string]string{"@packing": packing, "@chunks": strconv.Itoa(chunks)}}
	if err != nil {
		m.Fields["@error"] = err.Error()
	}
	for k, v := range fields {
		m.Fields[k] = fmt.Sprint(v)
	}
	m.Text = m.Fields["short_message"]
	s.add(m)
}

// Journal receives by the journal's native protocol at the socket addr. Field "@file"
// says that an entry came as a file.
func Journal(t testing.TB, addr string) *Sink {
	t.Helper()
	s := newSink(t, "unixgram", addr, nil)
	s.packet = func(s *Sink, p, oob []byte) {
		m := Message{Fields: map[string]string{}}
		if len(oob) > 0 {
			m.Fields["@file"] = "true"
			p = readPassed(oob)
		}
		journalFields(p, m.Fields)
		m.Text = m.Fields["MESSAGE"]
		s.add(m)
	}
	s.Open(t)
	return s
}

func readPassed(oob []byte) []byte {
	all, err := unix.ParseSocketControlMessage(oob)
	if err != nil || len(all) == 0 {
		return nil
	}
	fds, err := unix.ParseUnixRights(&all[0])
	if err != nil || len(fds) == 0 {
		return nil
	}
	f := os.NewFile(uintptr(fds[0]), "entry")
	defer f.Close()
	b, _ := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	return b
}

func journalFields(p []byte, to map[string]string) {
	for len(p) > 0 {
		line, rest, ok := bytes.Cut(p, []byte("\n"))
		if !ok {
			to["@error"] = "torn"
			return
		}
		if name, value, ok := bytes.Cut(line, []byte("=")); ok {
			to[string(name)] = string(value)
			p = rest
			continue
		}
		if len(rest) < 8 {
			to["@error"] = "torn"
			return
		}
		n := binary.LittleEndian.Uint64(rest)
		if uint64(len(rest)) < 8+n+1 {
			to["@error"] = "torn"
			return
		}
		to[string(line)] = string(rest[8 : 8+n])
		p = rest[8+n+1:]
	}
}
