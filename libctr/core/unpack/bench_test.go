package unpack_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"

	"gantry/internal/testutil/coretest"
	"gantry/libctr/core/lease"
	"gantry/libctr/core/unpack"
)

// bulk makes the tar of a layer of about size bytes: files of a system, which pack to two
// fifths.
func bulk(b *testing.B, n, size int) []byte {
	rnd := rand.New(rand.NewPCG(uint64(n), 1))
	words := make([][]byte, 4096)
	for i := range words {
		words[i] = []byte(strconv.FormatUint(rnd.Uint64N(1<<(8+uint(i%40))), 36))
	}
	var out bytes.Buffer
	tw := tar.NewWriter(&out)
	dir := func(name string) {
		if err := tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			b.Fatal(err)
		}
	}
	dir("usr/")
	dir(fmt.Sprintf("usr/l%d/", n))
	for i := 0; out.Len() < size; i++ {
		if i%32 == 0 {
			dir(fmt.Sprintf("usr/l%d/d%d/", n, i/32))
		}
		var data bytes.Buffer
		for want := 1 << (8 + rnd.IntN(11)); data.Len() < want; {
			data.Write(words[rnd.IntN(len(words))])
		}
		err := tw.WriteHeader(&tar.Header{Name: fmt.Sprintf("usr/l%d/d%d/f%d", n, i/32, i), Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(data.Len())})
		if err != nil {
			b.Fatal(err)
		}
		if _, err := tw.Write(data.Bytes()); err != nil {
			b.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		b.Fatal(err)
	}
	return out.Bytes()
}

// BenchmarkUnpack unpacks an image of 14 layers and GANTRY_BENCH_MIB (64) MiB on our core,
// one layer after the other and at the same time, and on Debian's containerd.
func BenchmarkUnpack(b *testing.B) {
	mib := 64
	if n, err := strconv.Atoi(os.Getenv("GANTRY_BENCH_MIB")); err == nil {
		mib = n
	}
	for _, c := range []struct {
		name     string
		rebase   bool
		parallel int
		theirs   bool
	}{{"serial", false, 1, false}, {"parallel2", true, 2, false}, {"parallel3", true, 3, false}, {"parallel4", true, 4, false}, {"containerd", false, 1, true}} {
		b.Run(c.name, func(b *testing.B) {
			start := coretest.Start
			if c.theirs {
				start = coretest.Containerd
			}
			for b.Loop() {
				b.StopTimer()
				client := start(b)
				l, err := client.Leases().Create(b.Context(), "", nil)
				if err != nil {
					b.Fatal(err)
				}
				ctx := lease.With(b.Context(), l.ID)
				var layers []unpack.Layer
				u := unpack.New(unpack.Config{Content: client.Content(), Snapshotter: client.Snapshotter(name), Name: name,
					Applier: client.Differ(), Parallel: c.parallel, Rebase: c.rebase})
				for i := range 14 {
					share := []int{30, 2, 8, 1, 15, 1, 1, 10, 1, 12, 1, 1, 16, 1}[i]
					layers = append(layers, pack(b, ctx, client.Content(), bulk(b, i, mib<<20*share/100)))
				}
				b.StartTimer()
				if _, err := u.Unpack(ctx, layers, nil); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
