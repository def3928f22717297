// Package journald sends logs to systemd's journal by its native protocol
// (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/): a datagram for each entry, or a sealed
// memory file where it is too large for one.
package journald

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"golang.org/x/sys/unix"

	"gantry/api/logfile"
	"gantry/daemon/logger/target"
	"gantry/daemon/logger/target/link"
)

// Socket is where the journal listens.
const Socket = "/run/systemd/journal/socket"

var keys = []string{"env", "env-regex", "labels", "labels-regex", "tag"}

// Check looks at the driver's options as dockerd does.
func Check(c map[string]string) error {
	for k := range c {
		if !slices.Contains(keys, k) {
			return fmt.Errorf("unknown log opt '%s' for journald log driver", k)
		}
	}
	return nil
}

// Target is the journal.
type Target struct {
	link    link.Link
	common  []byte // fields that all entries have
	ordinal uint64
	buf     []byte
}

// New returns the journal that listens at socket. Nothing is connected yet.
func New(socket string, of target.Container) (*Target, target.Pace, error) {
	var epoch [32]byte
	rand.Read(epoch[:]) //nolint:errcheck // never fails
	fields := map[string]string{
		"CONTAINER_ID": of.ShortID(), "CONTAINER_ID_FULL": of.ID, "CONTAINER_NAME": of.Name,
		"CONTAINER_TAG": of.Tag, "IMAGE_NAME": of.ImageName, "SYSLOG_IDENTIFIER": of.Tag,
		"CONTAINER_LOG_EPOCH": hex.EncodeToString(epoch[:]),
	}
	for k, v := range of.Attrs {
		if k = fieldName(k); k != "" {
			fields[k] = v
		}
	}
	t := &Target{}
	for k, v := range fields {
		t.common = appendField(t.common, k, []byte(v))
	}
	t.link.Dial = func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unixgram", socket)
	}
	return t, target.Pace{}, nil
}

// Connect implements target.Target.
func (t *Target) Connect(ctx context.Context) error {
	if err := t.link.Connect(ctx); err != nil {
		return errNotThere{err}
	}
	return nil
}

// errNotThere has Docker's words.
type errNotThere struct{ error }

func (errNotThere) Error() string   { return "journald is not enabled on this host" }
func (e errNotThere) Unwrap() error { return e.error }

// Settle implements target.Target.
func (t *Target) Settle(ctx context.Context) error { return t.link.Settle(ctx) }

// Close implements target.Target.
func (t *Target) Close() error { return t.link.Close() }

// Send implements target.Target.
func (t *Target) Send(ctx context.Context, entries []target.Entry) error {
	if err := t.Connect(ctx); err != nil {
		return err
	}
	for i := range entries {
		if err := t.send(ctx, &entries[i]); err != nil {
			return err
		}
	}
	return nil
}

func (t *Target) send(ctx context.Context, e *target.Entry) error {
	t.ordinal++
	t.buf = t.encode(t.buf[:0], e)
	err := t.link.Write(ctx, t.buf)
	if errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS) {
		return t.sendFile(ctx)
	}
	return err
}

// encode appends e in the protocol's form.
func (t *Target) encode(dst []byte, e *target.Entry) []byte {
	priority := "6"
	if e.Stream == logfile.Stderr {
		priority = "3"
	}
	dst = appendField(dst, "PRIORITY", []byte(priority))
	dst = appendField(dst, "MESSAGE", e.Line)
	dst = append(dst, t.common...)
	dst = appendField(dst, "SYSLOG_TIMESTAMP", e.Time.AppendFormat(nil, time.RFC3339Nano))
	dst = appendField(dst, "CONTAINER_LOG_ORDINAL", strconv.AppendUint(nil, t.ordinal, 10))
	if e.Part == nil {
		return dst
	}
	dst = appendField(dst, "CONTAINER_PARTIAL_ID", []byte(e.Part.ID))
	dst = appendField(dst, "CONTAINER_PARTIAL_ORDINAL", strconv.AppendInt(nil, int64(e.Part.Ordinal), 10))
	dst = appendField(dst, "CONTAINER_PARTIAL_LAST", strconv.AppendBool(nil, e.Part.Last))
	if !e.Part.Last {
		dst = appendField(dst, "CONTAINER_PARTIAL_MESSAGE", []byte("true"))
	}
	return dst
}

// appendField appends a field; a value of several lines, or any bytes, is counted.
func appendField(dst []byte, name string, value []byte) []byte {
	dst = append(dst, name...)
	if bytes.IndexByte(value, '\n') < 0 {
		return append(append(append(dst, '='), value...), '\n')
	}
	dst = append(dst, '\n')
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(value)))
	return append(append(dst, value...), '\n')
}

// fieldName makes a name of the journal's alphabet: capitals, digits and underscores,
// which are not its first; "" when nothing is left.
func fieldName(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return unicode.ToUpper(r)
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		}
		return '_'
	}, s)
	return strings.TrimLeft(s, "_")
}

// sendFile sends what is in buf as a sealed memory file, which has no bound.
func (t *Target) sendFile(ctx context.Context) (err error) {
	fd, err := unix.MemfdCreate("journal-entry", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("make memory file: %w", err)
	}
	file := os.NewFile(uintptr(fd), "journal-entry")
	defer file.Close()
	if _, err := file.Write(t.buf); err != nil {
		return err
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(file.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("seal memory file: %w", err)
	}
	return t.link.WriteFile(ctx, file)
}
