package metadata

import (
	"math/rand/v2"
	"path/filepath"
	"testing"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/types"
	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"gantry/api/reqctx"
	"gantry/libctr/core/wire"
)

var samples = map[string]proto.Message{
	"image": &imagesapi.Image{Name: "a", Labels: map[string]string{"k": "v", "x.y": "z"}, CreatedAt: timestamppb.Now(),
		Target: &types.Descriptor{MediaType: "m", Digest: "d", Size: 7, Annotations: map[string]string{"a": "b"}}},
	"container": &containersapi.Container{ID: "c", Labels: map[string]string{"k": "v"}, Image: "i",
		Runtime: &containersapi.Container_Runtime{Name: "r", Options: &anypb.Any{TypeUrl: "t", Value: []byte{0xff}}},
		Spec:    &anypb.Any{TypeUrl: "s", Value: []byte("{}")}, Extensions: map[string]*anypb.Any{"e": {TypeUrl: "u"}}},
}

// FuzzValid: what is taken for valid can be decoded.
func FuzzValid(f *testing.F) {
	for _, m := range samples {
		raw, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		for name, m := range samples {
			err := proto.Unmarshal(raw, proto.Clone(m))
			if encoded(raw).valid(m.ProtoReflect().Descriptor()) && err != nil {
				t.Errorf("%s %x: %v", name, raw, err)
			}
		}
	})
}

// TestValid cuts and changes messages at random.
func TestValid(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for name, m := range samples {
		whole, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		d := m.ProtoReflect().Descriptor()
		if !encoded(whole).valid(d) {
			t.Errorf("%s is not taken for valid", name)
		}
		for range 20000 {
			raw := append([]byte{}, whole[:r.IntN(len(whole)+1)]...)
			for range r.IntN(3) {
				if len(raw) > 0 {
					raw[r.IntN(len(raw))] = byte(r.Uint32())
				}
			}
			err := proto.Unmarshal(raw, proto.Clone(m))
			if encoded(raw).valid(d) && err != nil {
				t.Fatalf("%s %x: %v", name, raw, err)
			}
		}
	}
}

// TestListEncoded: a record that cannot be read is passed over, and the others are what
// they are in a response.
func TestListEncoded(t *testing.T) {
	db, err := Open(filepath.Join(t.TempDir(), "meta.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ctx := reqctx.WithNamespace(t.Context(), "testing")
	err = db.update(ctx, func(tx *bbolt.Tx) error {
		b, err := makeBucket(tx, "testing", bucketImages)
		if err != nil {
			return err
		}
		for _, key := range []string{"a", "z"} {
			m := proto.Clone(samples["image"]).(*imagesapi.Image)
			m.Name = key
			if err := put(b, key, m); err != nil {
				return err
			}
		}
		return b.Put([]byte("odd"), []byte{0x0a, 0x7f})
	})
	if err != nil {
		t.Fatal(err)
	}
	for filter, want := range map[string]int{"": 2, "name==z": 1, `labels."x.y"==z`: 2, "target.mediatype==m,annotations.a!=b": 0, "labels.none": 0} {
		fields, err := imageStore{db}.ListEncoded(ctx, filter)
		if err != nil {
			t.Fatal(err)
		}
		var in, out imagesapi.ListImagesResponse
		wire.Embed(&in, fields...)
		raw, err := proto.Marshal(&in)
		if err == nil {
			err = proto.Unmarshal(raw, &out)
		}
		list, lerr := db.Images().List(ctx, filter)
		if err != nil || lerr != nil || len(out.GetImages()) != want || len(list) != want {
			t.Errorf("%q: %v, %v; %v, %v", filter, out.GetImages(), err, list, lerr)
		}
	}
}
