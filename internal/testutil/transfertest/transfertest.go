// Package transfertest is what a Transferrer must do, in this process or through gRPC,
// against Debian's docker-registry.
package transfertest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/api/reqctx"
	"gantry/internal/testutil/registrytest"
	"gantry/libctr/core/content"
	"gantry/libctr/core/image"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/manifest"
	"gantry/libctr/core/snapshot"
	"gantry/libctr/core/transfer"
)

// Subject is a transferrer and what it works on; each test has a namespace of its own.
type Subject struct {
	Transfers   transfer.Transferrer
	Content     content.Store
	Images      image.Store
	Leases      lease.Manager
	Snapshots   snapshot.Snapshotter
	Snapshotter string // its name
	// Containerd: it is a real one, of which what it is known not to do is not asked.
	Containerd bool
}

// Run runs the suite.
func Run(t *testing.T, on Subject) {
	registry := registrytest.Start(t)
	private := registry.Private(t)
	for name, fn := range map[string]func(subject){
		"pull":                       pull,
		"pull: unpack":               pullUnpack,
		"pull: Docker's types":       pullDocker,
		"pull: shown":                pullShown,
		"pull: platforms":            pullPlatforms,
		"pull: metadata of all":      pullMetadata,
		"pull: limit":                pullLimit,
		"pull: further names":        pullNames,
		"pull: credentials":          pullCredentials,
		"pull: what is there":        pullAgain,
		"pull: side by side":         pullTogether,
		"pull: not there":            pullAbsent,
		"pull: under a lease":        pullLeased,
		"pull: wrong diff ids":       pullWrong,
		"pull: cancelled":            pullCancelled,
		"push":                       push,
		"push: credentials":          pushPrivate,
		"push: one platform":         pushPlatform,
		"tag":                        tag,
		"import and export":          archives,
		"import: names":              importNames,
		"import: broken":             importBroken,
		"bytes through":              echo,
		"pairs that nobody supports": pairs,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := "testing-" + strings.ToLower(rand.Text())
			fn(subject{t, reqctx.WithNamespace(t.Context(), ns), on, registry, private})
		})
	}
}

type subject struct {
	*testing.T
	ctx context.Context
	Subject
	registry, private *registrytest.Registry
}

func (s subject) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s subject) is(what string, err, class error) {
	s.Helper()
	if !errors.Is(err, class) {
		s.Errorf("%s: %v, want class %v", what, err, class)
	}
}

// heard collects progress.
type heard struct {
	mu   sync.Mutex
	list []transfer.Progress
}

func (h *heard) options() transfer.Options {
	return transfer.Options{Progress: func(p transfer.Progress) {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.list = append(h.list, p)
	}}
}

// events of a name, or whole sentences for "".
func (h *heard) events(name string) (out []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.list {
		if p.Name == name {
			out = append(out, p.Event)
		}
	}
	return out
}

// Layer is a tar with one file, and its diff id.
func Layer(name, text string) (plain []byte, diffID digest.Digest) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	_ = w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(text))})
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.Bytes(), digest.FromBytes(b.Bytes())
}

func gzipped(p []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(p)
	_ = w.Close()
	return b.Bytes()
}

func zstandard(p []byte) []byte {
	w, _ := zstd.NewWriter(nil)
	return w.EncodeAll(p, nil)
}

// image of two layers, the second with a unique file.
func testImage(arch, unique string) registrytest.Image {
	one, a := Layer("base", "base\n")
	two, b := Layer("unique", unique)
	return registrytest.Image{Architecture: arch, Layers: [][]byte{gzipped(one), two}, DiffIDs: []digest.Digest{a, b}}
}

// fill pushes the test's image and returns its reference and target.
func (s subject) fill(tag string) (string, ocispec.Descriptor) {
	s.Helper()
	repository := "suite/" + strings.ToLower(strings.NewReplacer("/", "-", ":", "", "_", "-", " ", "").Replace(s.Name()))
	d := s.registry.Push(repository, tag, testImage(runtime.GOARCH, s.Name()+tag))
	return s.registry.Host + "/" + repository + ":" + tag, d
}

// fillIndex is fill with a further platform.
func (s subject) fillIndex(tag string) (ref string, index, host, other ocispec.Descriptor) {
	s.Helper()
	ref, host = s.fill(tag)
	repository := strings.TrimSuffix(strings.TrimPrefix(ref, s.registry.Host+"/"), ":"+tag)
	other = s.registry.Push(repository, tag+"-s390x", testImage("s390x", s.Name()+"else"))
	index = s.registry.Index(repository, tag, other, host)
	return ref, index, host, other
}

func (s subject) pull(ref string, store *transfer.ImageStore) *heard {
	s.Helper()
	h := &heard{}
	s.must(s.Transfers.Transfer(s.ctx, &transfer.Registry{Reference: ref}, store, h.options()))
	return h
}

func (s subject) has(d ocispec.Descriptor, want bool) {
	s.Helper()
	_, err := s.Content.Info(s.ctx, d.Digest)
	if err != nil && !errdefs.IsNotFound(err) {
		s.Fatal(err)
	}
	if has := err == nil; has != want {
		s.Errorf("%s %s: there %v, want %v", d.MediaType, d.Digest, has, want)
	}
}

func (s subject) children(d ocispec.Descriptor) []ocispec.Descriptor {
	s.Helper()
	list, err := manifest.ReadChildren(s.ctx, s.Content, d)
	s.must(err)
	return list
}

func (s subject) labels(d ocispec.Descriptor) map[string]string {
	s.Helper()
	info, err := s.Content.Info(s.ctx, d.Digest)
	s.must(err)
	return info.Labels
}

// noLeases checks that a transfer has left none of its own; one that was given up is
// undone beside us.
func (s subject) noLeases() {
	s.Helper()
	var list []lease.Lease
	for range 200 {
		var err error
		list, err = s.Leases.List(s.ctx)
		s.must(err)
		if len(list) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	s.Errorf("leases are left: %+v", list)
}

var secret = transfer.Secret{Username: registrytest.User, Secret: registrytest.Password}

func texts(ids []digest.Digest) (out []string) {
	for _, d := range ids {
		out = append(out, d.String())
	}
	return out
}

func marshal(v any) []byte {
	p, err := json.Marshal(v)
	if err != nil {
		panic(err) // of the test's own values
	}
	return p
}
