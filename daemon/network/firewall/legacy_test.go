package firewall

import (
	"encoding/binary"
	"slices"
	"testing"
)

// entry is a struct ipt_entry with a standard target.
func entry(in, out string, verdict int32) []byte {
	e := make([]byte, entrySize+40)
	copy(e[ifaceAt:], in)
	copy(e[ifaceAt+16:], out)
	binary.NativeEndian.PutUint16(e[targetAt:], entrySize)
	binary.NativeEndian.PutUint16(e[targetAt+2:], uint16(len(e)))
	binary.NativeEndian.PutUint32(e[entrySize+verdictAt:], uint32(verdict))
	return e
}

func TestLegacyForward(t *testing.T) {
	first := entry("gt0", "", -2)
	drops := slices.Concat(first, entry("", "", dropVerdict), entry("", "", -2))
	var info ipTablesInfo
	info.Underflow[hookForward] = uint32(len(first))
	got, named := legacyForward(info, drops)
	if !got || !slices.Contains(named, "gt0") {
		t.Errorf("drops %t, names %q", got, named)
	}
	if got, _ := legacyForward(info, slices.Concat(first, entry("", "", -2))); got {
		t.Error("an accepting policy drops")
	}
	for cut := range drops { // nothing is read past the end
		legacyForward(info, drops[:cut])
	}
	if got, _ := legacyForward(info, make([]byte, 400)); got { // an entry without a length ends it
		t.Error("zeroes drop")
	}
}
