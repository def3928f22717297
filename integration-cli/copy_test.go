package integrationcli

import (
	"archive/tar"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/internal/testutil/engine"
)

// TestCopy is docker cp in both directions, with a running and with a stopped container.
func TestCopy(t *testing.T) {
	e := start(t)
	host := t.TempDir()
	put := func(name, body string) string {
		path := filepath.Join(host, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	file := put("file", "from the host")
	put("dir/sub/x", "x")
	if err := os.Symlink("sub/x", filepath.Join(host, "dir/link")); err != nil {
		t.Fatal(err)
	}
	bind, ro := t.TempDir(), t.TempDir()
	mounts := []string{"-v", "vol:/vol/deep", "-v", bind + ":/bind", "-v", ro + ":/ro:ro", "--tmpfs", "/mem"}
	e.Must(append(append([]string{"run", "-d", "--name", "up"}, mounts...), image, "sleep", "1000")...)
	e.Must(append(append([]string{"create", "--name", "down", "--volumes-from", "up"}, mounts[6:]...), image, "true")...)
	e.Must("run", "-d", "--name", "locked", "--read-only", "-v", bind+":/bind", image, "sleep", "1000")
	e.Must("run", "-d", "--name", "user", "-u", "7:8", image, "sleep", "1000")

	for _, c := range []string{"up", "down"} {
		try(t, e, []row{
			{name: c + " file to directory", args: []string{"cp", file, c + ":/tmp"}},
			{name: c + " file to name", args: []string{"cp", file, c + ":/tmp/other"}},
			{name: c + " directory", args: []string{"cp", filepath.Join(host, "dir"), c + ":/tmp"}},
			{name: c + " directory's content", args: []string{"cp", filepath.Join(host, "dir") + "/.", c + ":/tmp"}},
			{name: c + " volume", args: []string{"cp", file, c + ":/vol/deep/" + c}},
			{name: c + " bind", args: []string{"cp", file, c + ":/bind/" + c}},
			{name: c + " read-only bind", args: []string{"cp", file, c + ":/ro/x"}, code: 1,
				err: "Error response from daemon: mounted volume is marked read-only"},
			{name: c + " missing parent", args: []string{"cp", file, c + ":/no/such/x"}, code: 1,
				err: "Error response from daemon: Could not find the file /no/such in container " + c},
			{name: c + " missing source", args: []string{"cp", c + ":/no/such", host}, code: 1,
				err: "Error response from daemon: Could not find the file /no/such in container " + c},
			{name: c + " file over directory", args: []string{"cp", file, c + ":/tmp/dir/sub/x/"}, code: 1, err: "…no such directory"},
			{name: c + " directory over file", args: []string{"cp", filepath.Join(host, "dir"), c + ":/tmp/file"}, code: 1,
				err: "…cannot copy directory"},
		})
	}
	if got := e.Must("exec", "up", "sh", "-c", "cat /tmp/file /tmp/other /tmp/dir/link /tmp/link /vol/deep/up /bind/down"); got !=
		"from the hostfrom the hostxxfrom the hostfrom the host" {
		t.Errorf("in the running container: %q", got)
	}
	e.Must("exec", "up", "sh", "-c", "echo -n inner >/mem/inner; ln -s /tmp/dir /tmp/dirlink; ln -s dir/sub/x /tmp/filelink")

	out := t.TempDir()
	for args, want := range map[string]string{
		"up:/tmp/file " + out + "/a":         "a=from the host",
		"down:/tmp/dir " + out + "/d":        "d/sub/x=x",
		"up:/tmp/dir/. " + out:               "sub/x=x",
		"-L up:/tmp/filelink " + out + "/f":  "f=x",
		"up:/tmp/dirlink/ " + out + "/l":     "l/sub/x=x",
		"down:/vol/deep/up " + out + "/v":    "v=from the host",
		"-a up:/bind/down " + out + "/b":     "b=from the host",
		"up:/tmp/filelink " + out + "/plain": "plain=",
	} {
		e.Must(append([]string{"cp"}, strings.Fields(args)...)...)
		name, body, _ := strings.Cut(want, "=")
		if name == "plain" {
			if to, err := os.Readlink(filepath.Join(out, name)); err != nil || to != "dir/sub/x" {
				t.Errorf("cp %s: link to %q, %v", args, to, err)
			}
			continue
		}
		if got, err := os.ReadFile(filepath.Join(out, name)); err != nil || string(got) != body {
			t.Errorf("cp %s: %q, %v", args, got, err)
		}
	}
	try(t, e, []row{
		{name: "read-only root", args: []string{"cp", file, "locked:/tmp"}, code: 1,
			err: "Error response from daemon: container rootfs is marked read-only"},
		{name: "bind in a read-only root", args: []string{"cp", file, "locked:/bind/locked"}},
		{name: "what the engine has mounted", args: []string{"cp", file, "up:/etc/hosts"}, code: 1,
			err: "Error response from daemon: unlinkat /etc/hosts: device or resource busy"},
		{name: "over a tmpfs", args: []string{"cp", file, "up:/mem/under"}},
		{name: "owner of the archive", args: []string{"cp", file, "user:/tmp/root"}},
		{name: "owner of the container", args: []string{"cp", "-a", file, "user:/tmp/own"}},
	})
	if got := e.Must("exec", "user", "stat", "-c", "%u:%g", "/tmp/root", "/tmp/own"); got != "0:0\n7:8" {
		t.Errorf("owners %q", got)
	}
	if got := e.Must("exec", "up", "sh", "-c", "ls /mem; grep -c localhost /etc/hosts"); !strings.HasPrefix(got, "inner\n") {
		t.Errorf("mounts have changed: %q", got)
	}
	// What is under the tmpfs is there without it, as with Docker.
	if got := e.Must("cp", "up:/mem", "-"); !strings.Contains(got, "mem/under") || strings.Contains(got, "mem/inner") {
		t.Errorf("/mem from outside: %q", strings.ReplaceAll(got, "\x00", ""))
	}
}

// try is run with containers that stay.
func try(t *testing.T, e *engine.Engine, rows []row) {
	t.Helper()
	for _, r := range rows {
		got := e.DockerIn(r.stdin, r.args...)
		if got.Code != r.code {
			t.Errorf("%s: docker %s: exit %d, want %d: %s", r.name, strings.Join(r.args, " "), got.Code, r.code, got.Stderr)
		}
		compare(t, r.name+": stderr", got.Stderr, r.err)
	}
}

// TestCopyStreams is docker cp with "-", which is a tar, and docker export.
func TestCopyStreams(t *testing.T) {
	e := start(t)
	e.Must("run", "-d", "--name", "up", "-v", "/vol", image, "sleep", "1000")
	e.Must("exec", "up", "touch", "/vol/x")
	var in bytes.Buffer
	w := tar.NewWriter(&in)
	for _, h := range []tar.Header{
		{Name: "d/", Typeflag: tar.TypeDir, Mode: 0o750, Uid: 5, Gid: 6, ModTime: time.Unix(1e9, 0)},
		{Name: "d/f", Typeflag: tar.TypeReg, Mode: 0o4711, Uid: 1, Gid: 2, Size: 2, ModTime: time.Unix(1e9, 0)},
		{Name: "d/null", Typeflag: tar.TypeChar, Mode: 0o622, Devmajor: 1, Devminor: 3, ModTime: time.Unix(1e9, 0)},
		{Name: "d/hard", Typeflag: tar.TypeLink, Linkname: "d/f"},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if h.Size > 0 {
			io.WriteString(w, "ab") //nolint:errcheck // a buffer
		}
	}
	w.Close()
	if r := e.DockerIn(in.String(), "cp", "-", "up:/tmp"); r.Code != 0 {
		t.Fatalf("cp -: %+v", r)
	}
	const want = "750 5:6 1000000000 2\n4711 1:2 1000000000 2\n622 0:0 1000000000 1"
	if got := e.Must("exec", "up", "stat", "-c", "%a %u:%g %Y %h", "/tmp/d", "/tmp/d/f", "/tmp/d/null"); got != want {
		t.Errorf("unpacked:\n%s\nwant\n%s", got, want)
	}
	check := func(what, got string, want map[string]byte) {
		found := map[string]byte{}
		for r := tar.NewReader(strings.NewReader(got)); ; {
			h, err := r.Next()
			if err != nil {
				if err != io.EOF {
					t.Errorf("%s: %v", what, err)
				}
				break
			}
			found[h.Name] = h.Typeflag
		}
		for name, kind := range want {
			if found[name] != kind {
				t.Errorf("%s: %s is %q, want %q", what, name, found[name], kind)
			}
		}
	}
	raw := func(args ...string) string { return e.Docker(args...).Stdout }
	check("cp to -", raw("cp", "up:/tmp/d", "-"), map[string]byte{
		"d/": tar.TypeDir, "d/f": tar.TypeReg, "d/hard": tar.TypeLink, "d/null": tar.TypeChar})
	for range 2 { // running, then stopped
		check("export", raw("export", "up"), map[string]byte{
			"bin/": tar.TypeDir, "tmp/d/f": tar.TypeReg, "vol/": tar.TypeDir, "vol/x": 0})
		e.Docker("kill", "up")
	}
}

// TestCopyHeader is what the CLI sees before it copies.
func TestCopyHeader(t *testing.T) {
	e := start(t)
	e.Must("run", "-d", "--name", "up", image, "sleep", "1000")
	e.Must("exec", "up", "ln", "-s", "../bin/sh", "/tmp/l")
	for path, want := range map[string]containertypes.PathStat{
		"/tmp/": {Name: "tmp", Mode: os.ModeDir | os.ModeSticky | 0o777},
		"tmp/l": {Name: "l", Mode: os.ModeSymlink | 0o777, Size: 9, LinkTarget: "/bin/sh"},
	} {
		r, err := e.HTTP().Head("http://gantry/v1.51/containers/up/archive?path=" + url.QueryEscape(path))
		if err != nil {
			t.Fatal(err)
		}
		r.Body.Close()
		raw, _ := base64.StdEncoding.DecodeString(r.Header.Get("X-Docker-Container-Path-Stat"))
		var got containertypes.PathStat
		if err := json.Unmarshal(raw, &got); err != nil || got.Mtime.IsZero() {
			t.Errorf("%s: %s, %v", path, raw, err)
			continue
		}
		if got.Mtime = want.Mtime; got.Mode.IsDir() {
			got.Size = 0
		}
		if got != want {
			t.Errorf("%s: %+v, want %+v", path, got, want)
		}
	}
}

// TestCopyRace copies to and from a path that a process in the container makes a
// directory and a link to a place of the host's by turns.
func TestCopyRace(t *testing.T) {
	e := start(t)
	out := t.TempDir()
	const secret = "the host's own"
	if err := os.WriteFile(filepath.Join(out, "f"), []byte(secret), 0o644); err != nil {
		t.Fatal(err)
	}
	e.Must("run", "-d", "--name", "up", image, "sh", "-c",
		"mkdir -p /d/real; ln -s "+out+" /d/link; while :; do mv /d/real /d/x; mv /d/x /d/real; mv /d/link /d/x; mv /d/x /d/link; done")
	var in bytes.Buffer
	w := tar.NewWriter(&in)
	for _, name := range []string{"x/f", "x/new"} {
		w.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: 1, Mode: 0o644}) //nolint:errcheck // a buffer
		io.WriteString(w, "x")                                                              //nolint:errcheck // a buffer
	}
	w.Close()
	const place = "/containers/up/archive?path="
	for i := range scale(10000, 25) {
		for _, dir := range []string{"/d", "/d/x/.."} {
			if err := putTar(e, place+dir, in.Bytes()); err != nil {
				t.Fatal(err)
			}
		}
		for _, path := range []string{"/d", "/d/x", "/d/x/.", "/d/x/f"} {
			if _, got, err := ask(e, http.MethodGet, place+path, nil); err != nil && !strings.Contains(err.Error(), "EOF") || strings.Contains(got, secret) {
				t.Fatalf("round %d: %s gave what is outside, or %v", i, path, err)
			}
		}
		left, _ := os.ReadDir(out)
		got, err := os.ReadFile(filepath.Join(out, "f"))
		if err != nil || string(got) != secret || len(left) != 1 {
			t.Fatalf("round %d: touched outside: %q, %v, %v", i, got, left, err)
		}
	}
}

// putTar makes one PUT, whatever its answer.
func putTar(e *engine.Engine, path string, in []byte) error {
	req, err := http.NewRequest(http.MethodPut, "http://gantry/v1.51"+path, bytes.NewReader(in))
	if err != nil {
		return err
	}
	r, err := e.HTTP().Do(req)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	_, err = io.Copy(io.Discard, r.Body)
	return err
}

// TestCopyAndStart: a start does not mount the files that a copy still has mounted, and
// a client that has stopped sending holds nobody up for ever.
func TestCopyAndStart(t *testing.T) {
	t.Parallel()
	e := start(t)
	e.Must("create", "--name", "down", image, "sh", "-c", "cat /tmp/whole; sleep 1000")
	content, feed := io.Pipe()
	req, err := http.NewRequest(http.MethodPut, "http://gantry/v1.51/containers/down/archive?path=/tmp", content)
	if err != nil {
		t.Fatal(err)
	}
	answer := make(chan string, 1)
	go func() {
		r, err := e.HTTP().Do(req)
		if err != nil {
			answer <- err.Error()
			return
		}
		defer r.Body.Close()
		b, _ := io.ReadAll(r.Body)
		answer <- fmt.Sprint(r.StatusCode, string(b))
	}()
	w := tar.NewWriter(feed)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(w.WriteHeader(&tar.Header{Name: "whole", Typeflag: tar.TypeReg, Size: 5, Mode: 0o644}))
	_, err = io.WriteString(w, "whole")
	check(err)
	check(w.WriteHeader(&tar.Header{Name: "part", Typeflag: tar.TypeReg, Size: 1 << 20, Mode: 0o644}))
	time.Sleep(100 * time.Millisecond)
	e.Must("start", "down")
	if s := status(e, "down"); s != "running" {
		t.Errorf("the container is %s", s)
	}
	_, err = w.Write(make([]byte, 1<<20))
	check(err)
	feed.Close()
	if got := <-answer; !strings.HasPrefix(got, "409") {
		t.Errorf("the copy: %s", got)
	}
	if got := e.Must("exec", "down", "sh", "-c", "cat /tmp/whole; stat -c %s /tmp/part"); got != "whole0" {
		t.Errorf("files %q", got)
	}
}
