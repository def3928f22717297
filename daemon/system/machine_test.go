package system

import (
	"strings"
	"testing"
)

func TestParseOSRelease(t *testing.T) {
	for text, want := range map[string]osRelease{
		"PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nVERSION_ID=\"13\"\n": {"Debian GNU/Linux 13 (trixie)", "13"},
		"NAME=Arch\nPRETTY_NAME='Arch Linux'":                               {"Arch Linux", ""},
		"":                                                                  {"Linux", ""},
		"PRETTY_NAME=\n":                                                    {"Linux", ""},
	} {
		if got := parseOSRelease(strings.NewReader(text)); got != want {
			t.Errorf("%q: %+v", text, got)
		}
	}
}
