package transfertest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"gantry/api/errdefs"
	"gantry/libctr/core/transfer"
)

// closer is a buffer that knows when it is closed.
type closer struct {
	bytes.Buffer
	closed int
}

func (c *closer) Close() error {
	c.closed++
	return nil
}

func (s subject) export(name string, e *transfer.Export) (*closer, *heard) {
	s.Helper()
	out, h := &closer{}, &heard{}
	e.Stream = out
	s.must(s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: name}, e, h.options()))
	if out.closed != 1 {
		s.Errorf("closed %d times", out.closed)
	}
	return out, h
}

func archives(s subject) {
	ref, want := s.fill("1")
	s.pull(ref, &transfer.ImageStore{Name: ref})
	out, h := s.export(ref, &transfer.Export{})
	if got := h.events(""); !slices.Equal(got, []string{"Exporting", "Completed export"}) {
		s.Errorf("sentences %q", got)
	}
	s.must(s.Images.Delete(s.ctx, ref, true, nil))
	s.has(want, false)
	h = &heard{}
	s.must(s.Transfers.Transfer(s.ctx, &transfer.Import{Stream: bytes.NewReader(gzipped(out.Bytes()))},
		&transfer.ImageStore{ExtraReferences: []transfer.Reference{{Name: "x", IsPrefix: true, AllowOverwrite: true}}, Unpacks: s.unpacks()}, h.options()))
	if got := h.events(""); !slices.Equal(got, []string{"Importing", "Completed import"}) {
		s.Errorf("sentences %q", got)
	}
	if got := h.events(ref); !slices.Equal(got, []string{"saved"}) {
		s.Errorf("events of the image %q", got)
	}
	img, err := s.Images.Get(s.ctx, ref)
	s.must(err)
	if img.Target.Digest != want.Digest {
		s.Errorf("came back as %v", img.Target)
	}
	_, a := Layer("base", "base\n")
	_, b := Layer("unique", s.Name()+"1")
	_, err = s.Snapshots.Stat(s.ctx, chain(a, b))
	s.must(err)
	s.must(s.Images.Delete(s.ctx, ref, true, nil))
	s.has(want, false)
	s.is("export of nothing", s.Transfers.Transfer(s.ctx, &transfer.ImageStore{Name: "no"}, &transfer.Export{Stream: &closer{}}, transfer.Options{}), errdefs.ErrNotFound)
	s.noLeases()
}

func importNames(s subject) {
	ref, want := s.fill("1")
	s.pull(ref, &transfer.ImageStore{Name: ref})
	out, _ := s.export(ref, &transfer.Export{})
	repository := strings.TrimSuffix(ref, ":1")
	for name, tc := range map[string]struct {
		to   transfer.ImageStore
		want []string
	}{
		"the prefix":             {transfer.ImageStore{ExtraReferences: []transfer.Reference{{Name: repository, IsPrefix: true}}}, []string{ref}},
		"part of a prefix":       {transfer.ImageStore{ExtraReferences: []transfer.Reference{{Name: repository[:len(repository)-1], IsPrefix: true}}}, nil},
		"another, with a digest": {transfer.ImageStore{ExtraReferences: []transfer.Reference{{Name: "x", IsPrefix: true, AddDigest: true}}}, []string{"x@" + want.Digest.String()}},
		"both": {transfer.ImageStore{ExtraReferences: []transfer.Reference{{Name: repository, IsPrefix: true, AddDigest: true}}},
			[]string{ref, repository + "@" + want.Digest.String()}},
		"skip the named": {transfer.ImageStore{ExtraReferences: []transfer.Reference{{Name: repository, IsPrefix: true, AddDigest: true, SkipNamedDigest: true}}}, []string{ref}},
	} {
		list, err := s.Images.List(s.ctx)
		s.must(err)
		for _, img := range list {
			s.must(s.Images.Delete(s.ctx, img.Name, false, nil))
		}
		s.must(s.Transfers.Transfer(s.ctx, &transfer.Import{Stream: bytes.NewReader(out.Bytes())}, &tc.to, transfer.Options{}))
		list, err = s.Images.List(s.ctx)
		s.must(err)
		var got []string
		for _, img := range list {
			if !strings.HasPrefix(img.Name, "x@") && !strings.HasPrefix(img.Name, repository) {
				continue
			}
			got = append(got, img.Name)
		}
		slices.Sort(got)
		slices.Sort(tc.want)
		if name == "another, with a digest" { // the index itself gets one too
			if !slices.Contains(got, tc.want[0]) {
				s.Errorf("%s: names %q, want %q", name, got, tc.want)
			}
			continue
		}
		if name == "both" || name == "skip the named" {
			got = slices.DeleteFunc(got, func(n string) bool { return strings.Contains(n, "@") && !slices.Contains(tc.want, n) })
		}
		if !slices.Equal(got, tc.want) {
			s.Errorf("%s: names %q, want %q", name, got, tc.want)
		}
	}
}

type brokenReader struct{ n int }

func (r *brokenReader) Read(p []byte) (int, error) {
	if r.n == 0 {
		return 0, errors.New("the disk is on fire")
	}
	r.n--
	return copy(p, make([]byte, 512)), nil
}

func importBroken(s subject) {
	to := &transfer.ImageStore{Name: "x"}
	for name, r := range map[string]io.Reader{"nothing": strings.NewReader(""), "no tar": strings.NewReader("hello"), "no image": bytes.NewReader(emptyTar())} {
		if err := s.Transfers.Transfer(s.ctx, &transfer.Import{Stream: r}, to, transfer.Options{}); err == nil {
			s.Errorf("%s was imported", name)
		}
	}
	err := s.Transfers.Transfer(s.ctx, &transfer.Import{Stream: &brokenReader{n: 1}}, to, transfer.Options{})
	if err == nil || !strings.Contains(err.Error(), "the disk is on fire") {
		s.Errorf("a reader that fails: %v", err)
	}
	s.noLeases()
}

func emptyTar() []byte {
	p, _ := Layer("x", "y")
	return p
}

func echo(s subject) {
	if s.Containerd {
		s.Skip("containerd may cut the stream off at its end: context canceled")
	}
	in := bytes.Repeat([]byte("0123456789abcdef"), 50_000)
	out := &closer{}
	s.must(s.Transfers.Transfer(s.ctx, &transfer.Import{Stream: bytes.NewReader(in)}, &transfer.Export{Stream: out}, transfer.Options{}))
	if !bytes.Equal(out.Bytes(), in) || out.closed != 1 {
		s.Errorf("%d bytes of %d came through, closed %d times", out.Len(), len(in), out.closed)
	}
}

func pairs(s subject) {
	for _, p := range [][2]transfer.End{
		{&transfer.Registry{Reference: "a/b:c"}, &transfer.Registry{Reference: "a/b:d"}},
		{&transfer.Registry{Reference: "a/b:c"}, &transfer.Export{Stream: &closer{}}},
		{&transfer.Import{Stream: strings.NewReader("")}, &transfer.Registry{Reference: "a/b:d"}},
	} {
		err := s.Transfers.Transfer(s.ctx, p[0], p[1], transfer.Options{})
		s.is(fmt.Sprintf("%s to %s", p[0], p[1]), err, errdefs.ErrNotImplemented)
	}
}
