package wire

import (
	"bytes"
	"context"

	"google.golang.org/protobuf/proto"
)

// EncodedLister is a store whose records are kept as the messages that a list is answered
// with: a service passes them on without decoding them. Each is encoded as the field 1 of
// another message, and may be kept, but not changed.
type EncodedLister interface {
	ListEncoded(ctx context.Context, filters ...string) ([][]byte, error)
}

// Embed puts encoded fields into m. Whoever decodes m finds them in their places; until
// then they are unknown fields.
func Embed(m proto.Message, fields ...[]byte) {
	raw := bytes.Join(fields, nil)
	if len(fields) == 1 {
		raw = fields[0]
	}
	m.ProtoReflect().SetUnknown(raw)
}
