package diff_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"gantry/api/errdefs"
	"gantry/internal/testutil/coretest"
	"gantry/internal/testutil/need"
	corecontent "gantry/libctr/core/content"
	corediff "gantry/libctr/core/diff"
	"gantry/libctr/core/lease"
	coremount "gantry/libctr/core/mount"
	"gantry/libctr/mount"
)

// portrait describes all that a layer carries of a tree.
func portrait(root string) (string, error) {
	var b strings.Builder
	inodes := map[uint64]string{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		var st unix.Stat_t
		if err := unix.Lstat(path, &st); err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, path)
		fmt.Fprintf(&b, "%s %o %d:%d %x", rel, st.Mode, st.Uid, st.Gid, st.Rdev)
		if !d.IsDir() { // of directories not every unpacker keeps them
			fmt.Fprintf(&b, " @%d", st.Mtim.Sec)
		}
		for _, name := range []string{"user.note", "security.capability"} {
			value := make([]byte, 64)
			if n, err := unix.Lgetxattr(path, name, value); err == nil {
				fmt.Fprintf(&b, " %s=%x", name, value[:n])
			}
		}
		first, linked := inodes[st.Ino]
		switch {
		case linked:
			fmt.Fprintf(&b, " = %s", first)
		case d.Type().IsRegular():
			inodes[st.Ino] = rel
			p, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " %d %s", len(p), digest.FromBytes(p).Encoded()[:8])
		case d.Type() == fs.ModeSymlink:
			to, err := os.Readlink(path)
			if err != nil {
				return err
			}
			fmt.Fprintf(&b, " -> %s", to)
		}
		b.WriteByte('\n')
		return nil
	})
	return b.String(), err
}

// capability is CAP_NET_RAW, permitted and effective, in version 2.
var capability = []byte{1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}

// note is change's attribute, as portrait shows it.
const note = " user.note=6869"

// richBase and richChange have what base and change lack.
func richBase(root string) error {
	return errors.Join(base(root), write(root, "big", strings.Repeat("0123456789abcdef", 1<<14)),
		os.Mkdir(filepath.Join(root, "empty"), 0o1777), os.Chmod(filepath.Join(root, "empty"), 0o777|os.ModeSticky),
		write(root, "one", "1"), os.Link(filepath.Join(root, "one"), filepath.Join(root, "dir/two")))
}

func richChange(root string) error {
	return errors.Join(change(root), write(root, "ping", "p"), os.Chown(filepath.Join(root, "ping"), 7, 8),
		unix.Setxattr(filepath.Join(root, "ping"), "security.capability", capability, 0),
		write(root, strings.Repeat("long", 40), "l"), write(root, "dir/ümlaut\tand tab", "u"),
		os.Chown(filepath.Join(root, "keep"), 9, 9), os.RemoveAll(filepath.Join(root, "empty")))
}

// side is one of two differs with what it stands on.
type side struct {
	*bench
	differ interface {
		corediff.Applier
		corediff.Comparer
	}
}

// sides are ours, and Debian's containerd.
func sides(t *testing.T) (ours, theirs side) {
	b := newBench(t)
	ours = side{b, b.Differ}
	client := coretest.Containerd(t)
	l, err := client.Leases().Create(t.Context(), "", nil)
	b.must(err)
	theirs = side{&bench{T: t, ctx: lease.With(t.Context(), l.ID), store: client.Content(), snaps: client.Snapshotter("overlayfs")}, client.Differ()}
	return ours, theirs
}

// state makes the committed snapshot name with fill on the parent, and returns its tree.
func (s side) state(name, parent string, fill func(root string) error) {
	s.Helper()
	mounts, err := s.snaps.Prepare(s.ctx, name+"-x", parent, nil)
	s.must(err)
	s.mounted(mounts, fill)
	s.must(s.snaps.Commit(s.ctx, name, name+"-x", nil))
}

func (s side) view(name string) []coremount.Mount {
	s.Helper()
	key := "view of " + name
	mounts, err := s.snaps.Mounts(s.ctx, key)
	if errdefs.IsNotFound(err) {
		mounts, err = s.snaps.View(s.ctx, key, name, nil)
	}
	s.must(err)
	return mounts
}

func (s side) portrait(name string) (out string) {
	s.Helper()
	s.must(mount.WithTemp(s.ctx, mount.ReadOnly(s.view(name)), func(root string) (err error) {
		out, err = portrait(root)
		return err
	}))
	return out
}

// layer is the difference of two states as a blob.
func (s side) layer(lower, upper string, mediaType string) (ocispec.Descriptor, []byte) {
	s.Helper()
	var low []coremount.Mount
	if lower != "" {
		low = s.view(lower)
	}
	d, err := s.differ.Compare(s.ctx, low, s.view(upper), corediff.CompareOptions{MediaType: mediaType})
	s.must(err)
	r, err := s.store.ReaderAt(s.ctx, d)
	s.must(err)
	defer r.Close()
	p, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
	s.must(err)
	return d, p
}

// apply makes the committed snapshot name of another's layer.
func (s side) apply(name, parent string, d ocispec.Descriptor, p []byte) {
	s.Helper()
	w, err := s.store.Writer(s.ctx, corecontent.WriterOptions{Ref: d.Digest.String(), Desc: d})
	if !errdefs.IsAlreadyExists(err) {
		s.must(err)
		_, err = w.Write(p)
		s.must(err)
		s.must(w.Commit(s.ctx, d.Size, d.Digest, nil))
	}
	mounts, err := s.snaps.Prepare(s.ctx, name+"-x", parent, nil)
	s.must(err)
	_, err = s.differ.Apply(s.ctx, d, mounts, corediff.ApplyOptions{})
	s.must(err)
	s.must(s.snaps.Commit(s.ctx, name, name+"-x", nil))
}

// TestAcrossCores takes trees from one core to the other as layers.
func TestAcrossCores(t *testing.T) {
	ours, theirs := sides(t)
	for name, way := range map[string]struct {
		from, to side
		types    []string
		lost     string // what containerd 1.6 leaves out
	}{
		"to containerd":   {ours, theirs, []string{ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip, ocispec.MediaTypeImageLayerZstd}, "nothing"},
		"from containerd": {theirs, ours, []string{ocispec.MediaTypeImageLayer, ocispec.MediaTypeImageLayerGzip}, note},
	} {
		t.Run(name, func(t *testing.T) {
			way.from.state("base", "", richBase)
			way.from.state("top", "base", richChange)
			for _, mediaType := range way.types {
				low, lowBlob := way.from.layer("", "base", mediaType)
				top, topBlob := way.from.layer("base", "top", mediaType)
				way.to.apply("base "+mediaType, "", low, lowBlob)
				way.to.apply("top "+mediaType, "base "+mediaType, top, topBlob)
				for _, state := range []string{"base", "top"} {
					want, got := strings.ReplaceAll(way.from.portrait(state), way.lost, ""), way.to.portrait(state+" "+mediaType)
					if want != got {
						t.Errorf("%s as %s was\n%sand is\n%s", state, mediaType, want, got)
					}
				}
			}
		})
	}
}

// TestAcrossTar takes a tree to tar(1) and back.
func TestAcrossTar(t *testing.T) {
	program := need.Command(t, "tar")
	b := newBench(t)
	s := side{b, b.Differ}
	s.state("tree", "", func(root string) error { return errors.Join(richBase(root), richChange(root)) })
	want := s.portrait("tree")
	_, packed := s.layer("", "tree", ocispec.MediaTypeImageLayerGzip)

	dir := t.TempDir()
	b.must(os.Chmod(dir, 0o755))
	run := func(stdin []byte, args ...string) []byte {
		t.Helper()
		var out, said bytes.Buffer
		cmd := exec.CommandContext(t.Context(), program, append([]string{"-C", dir}, args...)...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &said
		if err := cmd.Run(); err != nil {
			t.Fatalf("tar %v: %v: %s", args, err, said.String())
		}
		return out.Bytes()
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	b.must(err)
	plain, err := io.ReadAll(z)
	b.must(err)
	attributes := []string{"--xattrs", "--xattrs-include=*"}
	run(plain, append(attributes, "--same-owner", "-xpf", "-")...)
	got, err := portrait(dir)
	b.must(err)
	if got != want {
		t.Errorf("tar has unpacked\n%sof\n%s", got, want)
	}
	for _, format := range []string{"pax", "gnu"} {
		args := []string{"--format=" + format, "-cf", "-", "."}
		if format == "pax" {
			args = append(attributes, args...)
		}
		back := run(nil, args...)
		d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(back), Size: int64(len(back))}
		s.apply("of "+format, "", d, back)
		got, want := s.portrait("of "+format), want
		if format == "gnu" { // without attributes
			want = strings.NewReplacer(fmt.Sprintf(" security.capability=%x", capability), "", note, "").Replace(want)
		}
		if got != want {
			t.Errorf("of tar's %s there is\n%swant\n%s", format, got, want)
		}
	}
}
