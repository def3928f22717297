package metadata

import (
	"strings"
	"unicode/utf8"

	"github.com/opencontainers/go-digest"
	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"gantry/libctr/filter"
)

// encoded is a message as it is in the file. Lists choose by it, without decoding what they
// leave out.
type encoded []byte

// each calls fn with each field that has a length, until it returns false; ok is false
// when the bytes are no message.
func (e encoded) each(fn func(protowire.Number, []byte) bool) (ok bool) {
	for len(e) > 0 {
		num, typ, n := protowire.ConsumeTag(e)
		if n < 0 {
			return false
		}
		e = e[n:]
		if typ != protowire.BytesType {
			if n = protowire.ConsumeFieldValue(num, typ, e); n < 0 {
				return false
			}
			e = e[n:]
			continue
		}
		v, n := protowire.ConsumeBytes(e)
		if n < 0 {
			return false
		}
		e = e[n:]
		if !fn(num, v) {
			return true
		}
	}
	return true
}

// field is the last of that number.
func (e encoded) field(num protowire.Number) (out encoded) {
	e.each(func(n protowire.Number, v []byte) bool {
		if n == num {
			out = v
		}
		return true
	})
	return out
}

// entry looks a key up in a map of strings.
func (e encoded) entry(num protowire.Number, path []string) (value string, ok bool) {
	key := strings.Join(path, ".")
	e.each(func(n protowire.Number, v []byte) bool {
		if n == num && string(encoded(v).field(1)) == key {
			value, ok = string(encoded(v).field(2)), true
		}
		return true
	})
	return value, ok
}

// valid says whether the bytes are such a message, all the way down.
func (e encoded) valid(m protoreflect.MessageDescriptor) bool {
	fields, sound := m.Fields(), true
	ok := e.each(func(num protowire.Number, v []byte) bool {
		switch f := fields.ByNumber(num); {
		case f == nil:
		case f.Kind() == protoreflect.MessageKind:
			sound = encoded(v).valid(f.Message())
		case f.Kind() == protoreflect.StringKind:
			sound = utf8.Valid(v)
		}
		return sound
	})
	return ok && sound
}

// imageFields makes an encoded image filterable.
func imageFields(e encoded) filter.Fields {
	return func(path []string) (string, bool) {
		switch {
		case path[0] == "name":
			return string(e.field(1)), true
		case path[0] == "target" && len(path) > 1 && path[1] == "digest":
			return digest.Digest(e.field(3).field(2)).String(), true
		case path[0] == "target" && len(path) > 1 && path[1] == "mediatype":
			return string(e.field(3).field(1)), true
		case path[0] == "labels":
			return e.entry(2, path[1:])
		case path[0] == "annotations":
			return e.field(3).entry(5, path[1:])
		}
		return "", false
	}
}

// containerFields makes an encoded container filterable.
func containerFields(e encoded) filter.Fields {
	return func(path []string) (string, bool) {
		switch path[0] {
		case "id":
			return string(e.field(1)), true
		case "image":
			image := string(e.field(3))
			return image, image != ""
		case "runtime":
			name := string(e.field(4).field(1))
			return name, len(path) > 1 && path[1] == "name" && name != ""
		case "labels":
			return e.entry(2, path[1:])
		}
		return "", false
	}
}

// choose calls fn with each record of a kind that passes. The key is valid until fn returns.
func choose(tx *bbolt.Tx, ns, kind string, match filter.Filter, fields func(encoded) filter.Fields, fn func(key []byte, e encoded)) error {
	b := bucket(tx, ns, kind)
	if b == nil {
		return nil
	}
	return b.ForEach(func(key, v []byte) error {
		if v != nil && match.Match(fields(v)) { // nil is a bucket
			fn(key, v)
		}
		return nil
	})
}

// copies are messages that outlive their transaction, one behind the other in memory, and
// each as the field 1 of another; see wire.EncodedLister.
type copies struct {
	db       *DB
	ns, kind string
	as       proto.Message
	arena    []byte
	all      [][]byte
}

func (db *DB) copies(ns, kind string, as proto.Message) *copies {
	return &copies{db: db, ns: ns, kind: kind, as: as}
}

// maxBlock is how much is allocated at a time at most, in bytes, for several records.
const maxBlock = 1 << 20

// add copies one; what cannot be decoded is passed over.
func (c *copies) add(key []byte, e encoded) {
	if !e.valid(c.as.ProtoReflect().Descriptor()) {
		c.db.passOver(c.ns, strings.TrimSuffix(c.kind, "s"), string(key), proto.Unmarshal(e, proto.Clone(c.as)))
		return
	}
	size := protowire.SizeTag(1) + protowire.SizeBytes(len(e))
	if cap(c.arena)-len(c.arena) < size {
		c.arena = make([]byte, 0, max(size, min(4*cap(c.arena), maxBlock)))
	}
	at := len(c.arena)
	c.arena = protowire.AppendTag(c.arena, 1, protowire.BytesType)
	c.arena = protowire.AppendBytes(c.arena, e)
	c.all = append(c.all, c.arena[at:len(c.arena):len(c.arena)])
}
