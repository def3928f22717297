package manifest_test

import (
	"encoding/json"
	"errors"
	"maps"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	"gantry/libctr/core/manifest"
)

func TestMediaTypes(t *testing.T) {
	for mt, prefix := range map[string]string{
		ocispec.MediaTypeImageManifest:                                       "manifest-",
		manifest.DockerManifest:                                              "manifest-",
		ocispec.MediaTypeImageIndex:                                          "index-",
		manifest.DockerList:                                                  "index-",
		ocispec.MediaTypeImageConfig:                                         "config-",
		manifest.DockerConfig:                                                "config-",
		ocispec.MediaTypeImageLayer:                                          "layer-",
		ocispec.MediaTypeImageLayerZstd:                                      "layer-",
		"application/vnd.docker.image.rootfs.diff.tar":                       "layer-",
		"application/vnd.docker.image.rootfs.diff.tar.gzip":                  "layer-",
		"application/vnd.docker.image.rootfs.diff.tar.zstd":                  "layer-",
		"application/vnd.docker.image.rootfs.diff.tar.gzip+encrypted":        "layer-",
		"application/vnd.docker.image.rootfs.foreign.diff.tar.gzip":          "layer-",
		"application/vnd.oci.image.layer.nondistributable.v1.tar+gzip":       "layer-",
		"application/vnd.in-toto+json":                                       "attestation-",
		"application/vnd.containerd.container.checkpoint.config.v1+proto":    "config-",
		"application/vnd.docker.distribution.manifest.v1+prettyjws":          "unknown-",
		"application/octet-stream":                                           "unknown-",
		"application/vnd.docker.image.rootfs.diff.tarball":                   "unknown-",
		"application/vnd.containerd.container.criu.checkpoint.criu.tar":      "config-",
		"application/vnd.oci.image.layer.v1.tar+gzip+encrypted; charset=any": "layer-",
	} {
		d := ocispec.Descriptor{MediaType: mt, Digest: digest.FromString("x")}
		if got, want := manifest.Ref(d), prefix+d.Digest.String(); got != want {
			t.Errorf("%s: %s, want %s", mt, got, want)
		}
	}
	named := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: "sha256:1", Annotations: map[string]string{ocispec.AnnotationRefName: "n"}}
	if got := manifest.Ref(named); got != "layer-n@sha256:1" {
		t.Errorf("named: %s", got)
	}
}

func TestChildren(t *testing.T) {
	const config, layer = `{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:c","size":1}`, `{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:l","size":2}`
	for name, tc := range map[string]struct {
		mediaType, document string
		n                   int
		bad                 bool
	}{
		"a manifest":              {ocispec.MediaTypeImageManifest, `{"config":` + config + `,"layers":[` + layer + `,` + layer + `]}`, 3, false},
		"an index":                {ocispec.MediaTypeImageIndex, `{"manifests":[` + config + `]}`, 1, false},
		"an empty index":          {ocispec.MediaTypeImageIndex, `{}`, 0, false},
		"what has no children":    {ocispec.MediaTypeImageConfig, `no JSON`, 0, false},
		"no JSON":                 {ocispec.MediaTypeImageManifest, `{`, 0, true},
		"an index as a manifest":  {ocispec.MediaTypeImageManifest, `{"manifests":[` + config + `]}`, 0, true},
		"a manifest as an index":  {ocispec.MediaTypeImageIndex, `{"layers":[` + layer + `]}`, 0, true},
		"two minds":               {manifest.DockerManifest, `{"mediaType":"` + manifest.DockerList + `","config":` + config + `}`, 0, true},
		"schema 1":                {manifest.DockerManifest, `{"fsLayers":[{"blobSum":"sha256:x"}]}`, 0, true},
		"a manifest of no config": {manifest.DockerManifest, `{"layers":[` + layer + `]}`, 0, true},
	} {
		got, err := manifest.Children(tc.mediaType, []byte(tc.document))
		if len(got) != tc.n || (err != nil) != tc.bad || err != nil && !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("%s: %d children, %v", name, len(got), err)
		}
	}
}

func TestLabels(t *testing.T) {
	d := func(mt, hex string) ocispec.Descriptor {
		return ocispec.Descriptor{MediaType: mt, Digest: digest.Digest("sha256:" + hex)}
	}
	got := manifest.Labels([]ocispec.Descriptor{
		d(ocispec.MediaTypeImageConfig, "c"), d(ocispec.MediaTypeImageLayer, "l"), d(ocispec.MediaTypeImageLayerGzip, "m"),
		d(ocispec.MediaTypeImageManifest, "n"), d(ocispec.MediaTypeImageIndex, "i"), d("text/plain", "t"), d(manifest.DockerConfig, "d"),
	})
	want := map[string]string{
		"config": "c", "config1": "d", "l.0": "l", "l.1": "m", "m.0": "n", "0": "i", "1": "t",
	}
	expected := map[string]string{}
	for k, v := range want {
		expected["containerd.io/gc.ref.content."+k] = "sha256:" + v
	}
	if !maps.Equal(got, expected) {
		t.Errorf("labels %v, want %v", got, expected)
	}
}

func FuzzChildren(f *testing.F) {
	f.Add(`{"config":{"digest":"sha256:x"},"layers":[{},{}]}`, true)
	f.Add(`{"manifests":[{"platform":{}}]}`, false)
	f.Fuzz(func(t *testing.T, document string, isManifest bool) {
		mt := ocispec.MediaTypeImageIndex
		if isManifest {
			mt = ocispec.MediaTypeImageManifest
		}
		children, err := manifest.Children(mt, []byte(document))
		if err == nil && !json.Valid([]byte(document)) {
			t.Errorf("%d children of no JSON", len(children))
		}
		if n := len(manifest.Labels(children)); err == nil && n != len(children) {
			t.Errorf("%d labels for %d children", n, len(children))
		}
	})
}
