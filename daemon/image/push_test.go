package image_test

import (
	"runtime"
	"strings"
	"testing"

	imagetypes "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/api/types/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/api/errdefs"
	apiimage "gantry/api/image"
	"gantry/internal/testutil/busybox"
	"gantry/internal/testutil/coretest"
	"gantry/internal/testutil/registrytest"
)

func pushImage(t testing.TB, f *fixture, ref string, auth *registry.AuthConfig) (string, error) {
	t.Helper()
	var out stream
	err := f.Push(t.Context(), ref, nil, auth, out.add)
	return out.text(), err
}

func TestPush(t *testing.T) {
	reg := registrytest.StartPrivate(t)
	auth := &registry.AuthConfig{Username: registrytest.User, Password: registrytest.Password}
	f := newFixture(t, coretest.Start(t))
	ref := reg.Host + "/team/app"
	load(t, f, busybox.Archive(t, busybox.Config{}, ref+":v1", ref+":v2"))
	img, err := f.Resolve(t.Context(), ref+":v1", nil)
	check(t, err)

	if _, err := pushImage(t, f, ref+":v1", nil); err == nil || !strings.HasSuffix(err.Error(), ": authorization failed: no basic auth credentials") || strings.Contains(err.Error(), "pull") {
		t.Errorf("without credentials: %v", err)
	}
	text, err := pushImage(t, f, ref+":v1", auth)
	check(t, err)
	wantInOrder(t, text, "The push refers to repository ["+ref+"]\n", ": Pushed\n", "v1: digest: "+img.ID.String()+" size: ")
	text, err = pushImage(t, f, ref, auth)
	check(t, err)
	wantInOrder(t, text, ": Layer already exists\n", "v1: digest: "+img.ID.String(), "v2: digest: "+img.ID.String())

	_, err = f.Remove(t.Context(), img.ID.String(), imagetypes.RemoveOptions{Force: true})
	check(t, err)
	_, err = pull(t, f, apiimage.PullOptions{Ref: ref + ":v2", Auth: auth})
	check(t, err)
	if again, err := f.Resolve(t.Context(), ref+":v2", nil); err != nil || again.ID != img.ID {
		t.Errorf("pulled back %v, %v", again, err)
	}
	for in, want := range map[string]string{
		ref + ":nope":    "tag does not exist: " + ref + ":nope",
		reg.Host + "/no": "An image does not exist locally with the tag: " + reg.Host + "/no",
		"UPPER":          "invalid reference format: repository name (library/UPPER) must be lowercase",
	} {
		if _, err := pushImage(t, f, in, auth); err == nil || err.Error() != want {
			t.Errorf("%s: %v", in, err)
		}
	}
}

// TestPushPart pushes the one platform that is here of an index.
func TestPushPart(t *testing.T) {
	reg := registrytest.Start(t)
	f := newFixture(t, coretest.Start(t))
	here := reg.Push("multi", "", sample(t, runtime.GOARCH, 1, 10))
	reg.Index("multi", "v1", here, reg.Push("multi", "", sample(t, "s390x", 1, 20)))
	_, err := pull(t, f, apiimage.PullOptions{Ref: reg.Host + "/multi:v1"})
	check(t, err)
	check(t, f.Tag(t.Context(), reg.Host+"/multi:v1", reg.Host+"/copy", "v1"))
	var out stream
	check(t, f.Push(t.Context(), reg.Host+"/copy:v1", nil, nil, out.add))
	wantInOrder(t, out.text(), "v1: digest: "+here.Digest.String())
	if last := out.all[len(out.all)-1]; last.Aux == nil || !strings.Contains(string(*last.Aux), "manifestPushedInsteadOfIndex\":true") {
		t.Errorf("aux %+v", last)
	}
	err = f.Push(t.Context(), reg.Host+"/copy:v1", &ocispec.Platform{OS: "linux", Architecture: "s390x"}, nil, out.add)
	if !errdefs.IsNotFound(err) {
		t.Errorf("push of what is not here: %v", err)
	}
}
