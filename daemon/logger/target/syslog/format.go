package syslog

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"gantry/daemon/logger/target"
)

// header is what all messages of a container have in common.
type header struct {
	facility  int
	host, tag string
	pid       int
}

// format is a form of messages.
type format struct {
	write   func(dst []byte, h *header, e *target.Entry) []byte
	counted bool // octets are counted, by RFC 5425
}

// rfc5424Micro is RFC 5424's time with all of its digits.
const rfc5424Micro = "2006-01-02T15:04:05.000000Z07:00"

func parseFormat(s, network string) (format, error) {
	switch s {
	case "":
		return format{write: local}, nil
	case "rfc3164":
		return format{write: rfc3164}, nil
	case "rfc5424":
		return format{write: rfc5424(time.RFC3339), counted: network == secure}, nil
	case "rfc5424micro":
		return format{write: rfc5424(rfc5424Micro), counted: network == secure}, nil
	}
	return format{}, errors.New("Invalid syslog format") //nolint:staticcheck // Docker's text
}

func (f *format) append(dst []byte, h *header, e *target.Entry) []byte {
	if !f.counted {
		return append(f.write(dst, h, e), '\n')
	}
	message := append(f.write(nil, h, e), '\n')
	dst = append(strconv.AppendInt(dst, int64(len(message)), 10), ' ')
	return append(dst, message...)
}

func (h *header) priority(e *target.Entry) int { return h.facility<<3 | severity(e.Stream) }

// local is RFC 3164 without the host, as programs send it to their own machine's syslog.
func local(dst []byte, h *header, e *target.Entry) []byte {
	dst = fmt.Appendf(dst, "<%d>%s %s[%d]: ", h.priority(e), e.Time.Local().Format(time.Stamp), h.tag, h.pid)
	return append(dst, e.Line...)
}

func rfc3164(dst []byte, h *header, e *target.Entry) []byte {
	dst = fmt.Appendf(dst, "<%d>%s %s %s[%d]: ", h.priority(e), e.Time.Local().Format(time.Stamp), h.host, h.tag, h.pid)
	return append(dst, e.Line...)
}

// rfc5424 has the tag as the name of the application and as the message's id.
func rfc5424(layout string) func([]byte, *header, *target.Entry) []byte {
	return func(dst []byte, h *header, e *target.Entry) []byte {
		dst = fmt.Appendf(dst, "<%d>1 %s %s %s %d %s - ", h.priority(e), e.Time.Local().Format(layout), h.host, h.tag, h.pid, h.tag)
		return append(dst, e.Line...)
	}
}
