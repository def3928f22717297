package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/defaults"
	"github.com/containerd/errdefs"
	"github.com/opencontainers/go-digest"
	specs "github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const snapshotter = defaults.DefaultSnapshotter

// prepare connects, and gives the core the image that tasks are made of.
func (s *subject) prepare(ctx context.Context, o options) error {
	var err error
	if s.client, err = containerd.New(s.socket); err != nil {
		return err
	}
	layer, err := os.ReadFile(o.Rootfs)
	if err != nil {
		return err
	}
	if s.image, err = s.put(ctx, "bench/busybox:latest", plain(layer)); err != nil {
		return err
	}
	return s.image.Unpack(ctx, snapshotter)
}

// packed is a layer as it is in an image.
type packed struct {
	kind string // media type
	blob []byte
	diff digest.Digest
}

func plain(tar []byte) packed {
	return packed{kind: ocispec.MediaTypeImageLayer, blob: tar, diff: digest.FromBytes(tar)}
}

// zipped packs a tar with gzip at the level that is used most.
func zipped(tar []byte) packed {
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	w.Write(tar)
	w.Close()
	return packed{kind: ocispec.MediaTypeImageLayerGzip, blob: out.Bytes(), diff: digest.FromBytes(tar)}
}

// put stores an image of layers.
func (s *subject) put(ctx context.Context, name string, layers ...packed) (_ containerd.Image, err error) {
	ctx, done, err := s.client.WithLease(ctx) // until the image holds its blobs
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, done(context.WithoutCancel(ctx))) }()
	m := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	c := ocispec.Image{Platform: ocispec.Platform{Architecture: runtime.GOARCH, OS: "linux"}}
	c.Config.Env = []string{"PATH=/bin"}
	c.RootFS.Type = "layers"
	labels := map[string]string{}
	refer := func(d ocispec.Descriptor) ocispec.Descriptor {
		labels[fmt.Sprintf("containerd.io/gc.ref.content.%d", len(labels))] = d.Digest.String()
		return d
	}
	for _, layer := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, layer.diff)
		d, err := s.blob(ctx, layer.kind, layer.blob, nil)
		if err != nil {
			return nil, err
		}
		m.Layers = append(m.Layers, refer(d))
	}
	raw, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	if m.Config, err = s.blob(ctx, ocispec.MediaTypeImageConfig, raw, nil); err != nil {
		return nil, err
	}
	refer(m.Config)
	if raw, err = json.Marshal(m); err != nil {
		return nil, err
	}
	target, err := s.blob(ctx, ocispec.MediaTypeImageManifest, raw, labels)
	if err != nil {
		return nil, err
	}
	_, err = s.client.ImageService().Create(ctx, images.Image{Name: name, Target: target})
	if err != nil && !errdefs.IsAlreadyExists(err) {
		return nil, err
	}
	return s.client.GetImage(ctx, name)
}

func (s *subject) blob(ctx context.Context, kind string, p []byte, labels map[string]string) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: kind, Digest: digest.FromBytes(p), Size: int64(len(p))}
	return d, content.WriteBlob(ctx, s.client.ContentStore(), d.Digest.String(), bytes.NewReader(p), d, content.WithLabels(labels))
}

// layer makes a tar of about mb MB: files of 1 to 256 KiB of text that shrinks to about a
// third, as programs and libraries do, in directories of a hundred.
func layer(seed uint64, mb int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	words := make([]string, 4096)
	for i := range words {
		words[i] = fmt.Sprintf("%x ", r.Uint64()>>r.IntN(48))
	}
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for n := 0; out.Len() < mb<<20; n++ {
		if n%100 == 0 {
			w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: fmt.Sprintf("l%d-%d/", seed, n/100), Mode: 0o755})
		}
		size := 1 << (10 + r.IntN(9))
		var text strings.Builder
		for text.Len() < size {
			text.WriteString(words[r.IntN(len(words))])
		}
		w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: fmt.Sprintf("l%d-%d/f%d", seed, n/100, n), Mode: 0o644, Size: int64(text.Len())})
		w.Write([]byte(text.String()))
	}
	w.Close()
	return out.Bytes()
}
