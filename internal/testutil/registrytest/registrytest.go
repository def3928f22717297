// Package registrytest runs Debian's docker-registry on a loopback port and fills it.
package registrytest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"gantry/internal/testutil/need"
)

// Registry is a running registry.
type Registry struct {
	Host string // 127.0.0.1:port
	data string // its storage
	t    testing.TB
	auth string // "user:password", "" for none
}

// User and Password open a registry that StartPrivate has made.
const (
	User     = "tester"
	Password = "secret"
	// htpasswd entry of both, bcrypt with cost 4.
	htpasswd = "tester:$2a$04$jVx.5w0hQscJY0agjRQq/eLnKSIOnwst4ImCII5smV.wM3uMzbypi\n"
)

// Start runs a registry that anybody may use.
func Start(t testing.TB) *Registry { return start(t, "", "") }

// StartPrivate runs one that asks for User and Password (basic authentication).
func StartPrivate(t testing.TB) *Registry {
	path := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(path, []byte(htpasswd), 0o600); err != nil {
		t.Fatal(err)
	}
	return start(t, "auth:\n  htpasswd:\n    realm: test\n    path: "+path+"\n", User+":"+Password)
}

func start(t testing.TB, more, auth string) *Registry {
	t.Helper()
	return startOn(t, filepath.Join(t.TempDir(), "data"), more, auth)
}

// Beside runs a further registry on r's storage, with more of docker-registry's
// configuration: it begins in the section "http".
func (r *Registry) Beside(t testing.TB, more string) *Registry {
	t.Helper()
	return startOn(t, r.data, more, "")
}

func startOn(t testing.TB, data, more, auth string) *Registry {
	t.Helper()
	program := need.Command(t, "docker-registry")
	host := freeAddress(t)
	config := fmt.Sprintf("version: 0.1\nlog:\n  accesslog:\n    disabled: true\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: %s\n  delete:\n    enabled: true\nhttp:\n  addr: %s\n%s",
		data, host, more)
	path := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(path, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "serve", path)
	cmd.Env = append(os.Environ(), "OTEL_TRACES_EXPORTER=none")
	cmd.Stderr = lines{t}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(unix.SIGKILL)
		_ = cmd.Wait()
	})
	r := &Registry{Host: host, data: data, t: t, auth: auth}
	r.ready()
	return r
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (r *Registry) ready() {
	r.t.Helper()
	for range 200 {
		resp, err := http.Get("http://" + r.Host + "/v2/")
		if err == nil {
			resp.Body.Close()
			return
		}
		time.Sleep(25 * time.Millisecond)
	}
	r.t.Fatal("docker-registry does not answer")
}

// Image is one platform to be pushed.
type Image struct {
	Architecture string
	Layers       [][]byte // gzip or plain tars
	DiffIDs      []digest.Digest
	Config       map[string]any // of "config"
}

// Push stores an image under repository:tag and returns its manifest's descriptor.
func (r *Registry) Push(repository, tag string, img Image) ocispec.Descriptor {
	r.t.Helper()
	config := r.json(map[string]any{
		"architecture": img.Architecture, "os": "linux", "created": "2024-05-06T07:08:09Z", "config": img.Config,
		"rootfs": map[string]any{"type": "layers", "diff_ids": img.DiffIDs},
	})
	m := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: r.Blob(repository, ocispec.MediaTypeImageConfig, config)}
	m.SchemaVersion = 2
	for _, l := range img.Layers {
		mt := ocispec.MediaTypeImageLayer
		if bytes.HasPrefix(l, []byte{0x1f, 0x8b}) {
			mt = ocispec.MediaTypeImageLayerGzip
		}
		m.Layers = append(m.Layers, r.Blob(repository, mt, l))
	}
	desc := r.Manifest(repository, tag, m.MediaType, r.json(m))
	desc.Platform = &ocispec.Platform{OS: "linux", Architecture: img.Architecture}
	return desc
}

// Index stores an index of manifests.
func (r *Registry) Index(repository, tag string, manifests ...ocispec.Descriptor) ocispec.Descriptor {
	r.t.Helper()
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex, Manifests: manifests}
	index.SchemaVersion = 2
	return r.Manifest(repository, tag, index.MediaType, r.json(index))
}

func (r *Registry) json(v any) []byte {
	r.t.Helper()
	p, err := json.Marshal(v)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// Blob stores a blob.
func (r *Registry) Blob(repository, mediaType string, p []byte) ocispec.Descriptor {
	r.t.Helper()
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(p), Size: int64(len(p))}
	resp := r.do("POST", "http://"+r.Host+"/v2/"+repository+"/blobs/uploads/", "", nil)
	where := resp.Header.Get("Location")
	sep := "?"
	if strings.Contains(where, "?") {
		sep = "&"
	}
	r.do("PUT", where+sep+"digest="+desc.Digest.String(), "application/octet-stream", p)
	return desc
}

// Manifest stores a manifest or index under a tag, or by its digest when tag is "".
func (r *Registry) Manifest(repository, tag, mediaType string, p []byte) ocispec.Descriptor {
	r.t.Helper()
	desc := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(p), Size: int64(len(p))}
	if tag == "" {
		tag = desc.Digest.String()
	}
	r.do("PUT", "http://"+r.Host+"/v2/"+repository+"/manifests/"+tag, mediaType, p)
	return desc
}

func (r *Registry) do(method, url, contentType string, body []byte) *http.Response {
	r.t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if user, password, ok := strings.Cut(r.auth, ":"); ok {
		req.SetBasicAuth(user, password)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
	if resp.StatusCode >= 300 {
		r.t.Fatalf("%s %s: %s: %s", method, url, resp.Status, said)
	}
	return resp
}

type lines struct{ t testing.TB }

func (l lines) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}
