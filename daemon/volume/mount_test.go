package volume

import (
	"context"
	"errors"
	"testing"
)

func TestResolveDevice(t *testing.T) {
	lookup := func(_ context.Context, host string) (string, error) {
		if host != "server" {
			return "", errors.New("no such host")
		}
		return "10.0.0.1", nil
	}
	for _, c := range []struct {
		why             string
		in              map[string]string
		device, options string
		fails           bool
	}{
		{"plain", map[string]string{"type": "tmpfs", "device": "tmpfs", "o": "addr=server"}, "tmpfs", "addr=server", false},
		{"nfs by name", map[string]string{"type": "nfs", "device": ":/x", "o": "ro,addr=server"}, ":/x", "ro,addr=10.0.0.1", false},
		{"nfs by address", map[string]string{"type": "nfs", "device": ":/x", "o": "addr=10.1.1.1"}, ":/x", "addr=10.1.1.1", false},
		{"nfs by IPv6", map[string]string{"type": "nfs", "device": ":/x", "o": "addr=::1"}, ":/x", "addr=::1", false},
		{"nfs unknown", map[string]string{"type": "nfs", "device": ":/x", "o": "addr=nope"}, "", "", true},
		{"cifs by name", map[string]string{"type": "cifs", "device": "//server/a b"}, "//10.0.0.1/a b", "", false},
		{"cifs by address", map[string]string{"type": "cifs", "device": "//10.1.1.1/a"}, "//10.1.1.1/a", "", false},
		{"no device", map[string]string{"type": "nfs"}, "", "", true},
	} {
		device, options, err := resolveDevice(t.Context(), c.in, lookup)
		if (err != nil) != c.fails || err == nil && (device != c.device || options != c.options) {
			t.Errorf("%s: %q %q, %v", c.why, device, options, err)
		}
	}
}
