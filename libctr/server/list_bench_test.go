package server_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"

	containersapi "github.com/containerd/containerd/api/services/containers/v1"
	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/opencontainers/go-digest"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/types/known/anypb"

	"gantry/internal/testutil/coretest"
)

// BenchmarkList lists many images and containers over the socket, of our core and of
// Debian's containerd: 10000, or as many as GANTRY_BENCH_RECORDS says.
func BenchmarkList(b *testing.B) {
	many := 10000
	if text := os.Getenv("GANTRY_BENCH_RECORDS"); text != "" {
		var err error
		if many, err = strconv.Atoi(text); err != nil {
			b.Fatal(err)
		}
	}
	for name, serve := range map[string]func(testing.TB) string{"gantry": func(t testing.TB) string { return coretest.Serve(t) }, "containerd": coretest.ServeContainerd} {
		b.Run(name, func(b *testing.B) {
			conn, err := grpc.NewClient("unix://"+serve(b), grpc.WithTransportCredentials(insecure.NewCredentials()),
				grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(1<<30), grpc.WaitForReady(true)))
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			listAll(b, conn, many)
		})
	}
}

func listAll(b *testing.B, conn *grpc.ClientConn, many int) {
	ctx := metadata.AppendToOutgoingContext(b.Context(), "containerd-namespace", "many")
	images, containers := imagesapi.NewImagesClient(conn), containersapi.NewContainersClient(conn)
	labels := map[string]string{"io.cri-containerd.image": "managed", "com.example.role": "web"}
	spec := &anypb.Any{TypeUrl: "types.containerd.io/opencontainers/runtime-spec/1/Spec", Value: make([]byte, 4<<10)}
	for n := range many {
		name := fmt.Sprintf("registry.example.com/team/service-%d:latest", n)
		_, err := images.Create(ctx, &imagesapi.CreateImageRequest{Image: &imagesapi.Image{Name: name, Labels: labels,
			Target: &types.Descriptor{MediaType: "application/vnd.oci.image.manifest.v1+json", Digest: digest.FromString(name).String(), Size: 1000}}})
		if err == nil {
			_, err = containers.Create(ctx, &containersapi.CreateContainerRequest{Container: &containersapi.Container{
				ID: fmt.Sprint("container", n), Image: name, Labels: labels, Spec: spec,
				Runtime: &containersapi.Container_Runtime{Name: "io.containerd.runc.v2"}, Snapshotter: "overlayfs", SnapshotKey: fmt.Sprint("container", n)}})
		}
		if err != nil {
			b.Fatal(err)
		}
	}
	count := func(b *testing.B, got int, err error) {
		b.Helper()
		if err != nil || got != many {
			b.Fatalf("%d records, %v", got, err)
		}
	}
	b.Run("images", func(b *testing.B) {
		for b.Loop() {
			r, err := images.List(ctx, &imagesapi.ListImagesRequest{})
			count(b, len(r.GetImages()), err)
		}
	})
	b.Run("one image of them", func(b *testing.B) {
		for b.Loop() {
			r, err := images.List(ctx, &imagesapi.ListImagesRequest{Filters: []string{"name==registry.example.com/team/service-77:latest"}})
			if err != nil || len(r.GetImages()) != 1 {
				b.Fatal(err)
			}
		}
	})
	b.Run("containers", func(b *testing.B) {
		for b.Loop() {
			stream, err := containers.ListStream(ctx, &containersapi.ListContainersRequest{})
			n := 0
			for ; err == nil; n++ {
				_, err = stream.Recv()
			}
			count(b, n-1, nil)
		}
	})
	b.Run("containers of one name", func(b *testing.B) {
		for b.Loop() {
			r, err := containers.List(ctx, &containersapi.ListContainersRequest{Filters: []string{`labels."com.example.role"==db`}})
			if err != nil || len(r.GetContainers()) != 0 {
				b.Fatal(err)
			}
		}
	})
}
