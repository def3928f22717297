package diff_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	corediff "gantry/libctr/core/diff"
	coremount "gantry/libctr/core/mount"
	"gantry/libctr/diff"
)

const sealed, wrapped = "application/vnd.example.sealed", "application/vnd.example.wrapped"

// processors strip a prefix each: one of the seal, if it is given the key, one of the wrapping.
func processors(dir string) []diff.Processor {
	return []diff.Processor{
		{ID: "unseal", Accepts: []string{sealed}, Returns: wrapped, Path: "/bin/sh", Env: []string{"OUT=" + dir},
			Args: []string{"-c", `printf %s "$STREAM_PROCESSOR_MEDIATYPE" >$OUT/type; cat <&3 >$OUT/payload || { echo no key >&2; exit 3; }; exec tail -c +7`}},
		{ID: "unwrap", Accepts: []string{wrapped}, Returns: ocispec.MediaTypeImageLayerGzip, Path: "tail", Args: []string{"-c", "+8"}},
		{ID: "late", Accepts: []string{"late"}, Returns: ocispec.MediaTypeImageLayer, Path: "/bin/sh", Args: []string{"-c", `cat; echo too late >&2; exit 4`}},
		{ID: "mute", Accepts: []string{"mute"}, Returns: ocispec.MediaTypeImageLayer, Path: "sleep", Args: []string{"1000"}},
		{ID: "gone", Accepts: []string{"gone"}, Returns: ocispec.MediaTypeImageLayer, Path: "/nonexistent/program"},
		{ID: "odd", Accepts: []string{"odd"}, Returns: "text/plain", Path: "cat"},
		{ID: "round", Accepts: []string{"round"}, Returns: "round", Path: "cat"},
	}
}

func (b *bench) target(key string) []coremount.Mount {
	b.Helper()
	mounts, err := b.snaps.Prepare(b.ctx, key, "", nil)
	b.must(err)
	return mounts
}

func TestProcessors(t *testing.T) {
	b := newBench(t)
	dir := t.TempDir()
	b.Differ = diff.New(b.store, processors(dir)...)
	plain := tarOf(t, map[string]string{"a": strings.Repeat("1", 1<<20)})
	blob := b.blob(sealed, append([]byte("SEALEDWRAPPED"), gzipped(t, plain)...))
	mounts := b.target("x")
	var read int64
	got, err := b.Apply(b.ctx, blob, mounts, corediff.ApplyOptions{
		SyncFS: true, Payloads: map[string]corediff.Payload{"unseal": {TypeURL: "key", Value: []byte("k")}},
		Progress: func(n int64) { read = n },
	})
	b.must(err)
	if got.Digest != digest.FromBytes(plain) || got.MediaType != ocispec.MediaTypeImageLayer || len(b.seen(mounts)["a"]) != 1<<20 {
		t.Errorf("applied %+v", got)
	}
	if read != blob.Size {
		t.Errorf("%d bytes were read of %d", read, blob.Size)
	}
	for name, want := range map[string]string{"type": sealed, "payload": "\n\x03key\x12\x01k"} {
		if p, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(p) != want {
			t.Errorf("its %s is %q, %v; want %q", name, p, err, want)
		}
	}
}

func TestProcessorsFail(t *testing.T) {
	b := newBench(t)
	b.Differ = diff.New(b.store, processors(t.TempDir())...)
	plain := tarOf(t, map[string]string{"a": "1"})
	for mediaType, want := range map[string]struct {
		text  string
		class error
	}{
		sealed:  {text: "stream processor unseal: exit status 3"},
		"late":  {text: "stream processor late: exit status 4: too late"},
		"gone":  {text: "start stream processor gone"},
		"odd":   {text: "failed to get stream processor for text/plain: no processor for media-type", class: errdefs.ErrNotImplemented},
		"round": {text: "more than 8 stream processors", class: errdefs.ErrInvalidArgument},
		"none":  {text: "failed to get stream processor for none: no processor for media-type", class: errdefs.ErrNotImplemented},
	} {
		_, err := b.Apply(b.ctx, b.maybe(mediaType, plain), b.target("of "+mediaType), corediff.ApplyOptions{})
		if err == nil || !strings.Contains(err.Error(), want.text) || want.class != nil && !errors.Is(err, want.class) {
			t.Errorf("%s: %v", mediaType, err)
		}
	}
	ctx, cancel := context.WithTimeout(b.ctx, 200*time.Millisecond)
	defer cancel()
	if _, err := b.Apply(ctx, b.maybe("mute", plain), b.target("of mute"), corediff.ApplyOptions{}); err == nil {
		t.Error("a processor that says nothing has done it")
	}
}

func TestOrdered(t *testing.T) {
	b := newBench(t)
	plain := tarOf(t, map[string]string{"a": "1"})
	first := diff.New(b.store)
	second := diff.New(b.store, diff.Processor{ID: "p", Accepts: []string{"other"}, Returns: ocispec.MediaTypeImageLayer, Path: "cat"})
	o := diff.Ordered{Differs: []diff.Both{first, second}, SyncFS: true}
	for mediaType, class := range map[string]error{ocispec.MediaTypeImageLayer: nil, "other": nil, "unknown": errdefs.ErrNotImplemented} {
		_, err := o.Apply(b.ctx, b.maybe(mediaType, plain), b.target("of "+mediaType), corediff.ApplyOptions{})
		if !errors.Is(err, class) {
			t.Errorf("%s: %v, want class %v", mediaType, err, class)
		}
	}
	if _, err := o.Compare(b.ctx, nil, nil, corediff.CompareOptions{MediaType: "text/plain"}); !errdefs.IsNotImplemented(err) ||
		!strings.Contains(fmt.Sprint(err), "unsupported diff media type: text/plain") {
		t.Errorf("compare into no layer: %v", err)
	}
	if _, err := (diff.Ordered{}).Apply(b.ctx, b.maybe("other", plain), nil, corediff.ApplyOptions{}); !errdefs.IsNotImplemented(err) {
		t.Errorf("without differs: %v", err)
	}
}
