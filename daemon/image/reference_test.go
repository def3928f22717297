package image

import (
	"slices"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/image"
)

func TestTruncatedID(t *testing.T) {
	for in, want := range map[string]string{
		"abcd": "abcd", "sha256:abcd1234": "abcd1234", "abc": "", "ABCD": "", "xyzw": "", "": "", "sha256:": "",
		strings.Repeat("a", 64): strings.Repeat("a", 64), strings.Repeat("a", 65): "", "sha512:abcd": "",
	} {
		if got := truncatedID(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestSameReferences(t *testing.T) {
	d := digest.FromString("x")
	at := "@" + d.String()
	for _, c := range []struct {
		why, named string // "" is no name
		have, want []string
	}{
		{"the tag", "a:1", []string{"a:1", "a:2", "b:1"}, []string{"a:1"}},
		{"the tag and the digest", "a:1", []string{"a:1", "a" + at}, []string{"a:1", "a" + at}},
		{"not the digest when another tag has it", "a:1", []string{"a:1", "a" + at, "a:2"}, []string{"a:1"}},
		{"the whole repository by digest", "a" + at, []string{"a:1", "a:2", "b:1"}, []string{"a:1", "a:2"}},
		{"dangling ones too", "a:1", []string{danglingPrefix + d.String(), "a:1"}, []string{danglingPrefix + d.String(), "a:1"}},
		{"the first without a name", "", []string{"a:1", "b:1"}, []string{"a:1"}},
		{"nothing", "c:1", []string{"a:1"}, nil},
	} {
		var imgs []image.Image
		for _, name := range c.have {
			if !strings.HasPrefix(name, danglingPrefix) {
				name = "docker.io/library/" + name
			}
			imgs = append(imgs, image.Image{Name: name, Target: ocispec.Descriptor{Digest: d}})
		}
		var named reference.Named
		if c.named != "" {
			named, _ = reference.ParseNormalizedNamed(c.named)
		}
		var got []string
		for _, img := range sameReferences(named, imgs) {
			got = append(got, strings.TrimPrefix(img.Name, "docker.io/library/"))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.why, got, c.want)
		}
	}
}

func TestLabelRules(t *testing.T) {
	labels := map[string]string{"a": "1", "empty": ""}
	for _, c := range []struct {
		arg    string
		negate bool
		want   bool
	}{
		{"a", false, true}, {"a=1", false, true}, {"a=2", false, false}, {"b", false, false}, {"b=1", false, false},
		{"a", true, false}, {"b", true, true}, {"a=1", true, false}, {"a=2", true, true},
		{"a!=1", false, false}, {"a!=2", false, true}, {"empty=", false, true},
	} {
		r, err := parseLabelRule(c.arg, c.negate)
		if err != nil || r.match(labels) != c.want {
			t.Errorf("%q, negated %t: %t, %v", c.arg, c.negate, !c.want, err)
		}
	}
	if _, err := parseLabelRule(strings.Repeat("x", 5000), false); !errdefs.IsInvalidArgument(err) {
		t.Errorf("long label: %v", err)
	}
}

func FuzzReferences(f *testing.F) {
	for _, s := range []string{"busybox", "a/b:c", "sha256:abcd", "x@sha256:" + strings.Repeat("a", 64), "LOCALHOST:5000/x", ""} {
		f.Add(s, "latest")
	}
	f.Fuzz(func(t *testing.T, ref, tag string) {
		if named, err := tagReference(ref, tag); err == nil {
			if _, ok := named.(reference.Tagged); !ok {
				t.Errorf("%q %q: no tag in %s", ref, tag, named)
			}
		} else if !errdefs.IsInvalidArgument(err) {
			t.Errorf("%q %q: %v", ref, tag, err)
		}
		if named, err := parsePullReference(ref); err == nil && refPart(reference.TagNameOnly(named)) == "" {
			t.Errorf("%q: nothing to ask a registry for", ref)
		}
		if hex := truncatedID(ref); hex != "" && !strings.HasSuffix(ref, hex) {
			t.Errorf("%q: %q", ref, hex)
		}
	})
}
