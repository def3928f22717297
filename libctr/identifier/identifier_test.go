package identifier_test

import (
	"regexp"
	"strings"
	"testing"

	"gantry/api/errdefs"
	"gantry/libctr/identifier"
)

var rule = regexp.MustCompile(`^[A-Za-z0-9]+(?:[._-](?:[A-Za-z0-9]+))*$`)

func TestValidate(t *testing.T) {
	for _, s := range []string{
		"a", "moby", "k8s.io", "a-b_c.d", "0", strings.Repeat("a", 76),
		"", ".", "..", "-a", "a-", "a--b", "a/b", "a b", "é", "a\x00", strings.Repeat("a", 77),
	} {
		want := rule.MatchString(s) && len(s) <= identifier.MaxLength
		if err := identifier.Validate(s); (err == nil) != want || (err != nil && !errdefs.IsInvalidArgument(err)) {
			t.Errorf("%q: %v, want ok %v", s, err, want)
		}
	}
}

func FuzzValidate(f *testing.F) {
	f.Add("a.b")
	f.Fuzz(func(t *testing.T, s string) {
		want := rule.MatchString(s) && len(s) <= identifier.MaxLength && !strings.HasSuffix(s, "\n")
		if err := identifier.Validate(s); (err == nil) != want {
			t.Errorf("%q: %v, want ok %v", s, err, want)
		}
	})
}
