package fsck

import (
	"context"
	"crypto/sha256"
	_ "crypto/sha512" // digests may be of it
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"gantry/libctr/metadata"
)

func (c *checker) contentDir() string {
	if c.Content != "" {
		return c.Content
	}
	return c.plugin(c.Root, "io.containerd.content.v1.content")
}

// content compares the records of blobs with the files.
func (c *checker) content(ctx context.Context, records metadata.Inspection) error {
	sizes := map[digest.Digest]int64{}
	for _, ns := range records.Namespaces {
		for _, b := range ns.Blobs {
			f := Finding{Kind: "blob", Namespace: ns.Name, Name: b.Digest.String()}
			if b.Digest.Validate() != nil {
				f.Class, f.Text = Wrong, "is no digest"
				c.find(f)
				continue
			}
			sizes[b.Digest] = b.Size
			f.Path = c.blobPath(b.Digest)
			st, err := os.Stat(f.Path)
			switch {
			case os.IsNotExist(err):
				f.Class, f.Text = Lost, "its file is not there"
			case err != nil:
				f.Class, f.Text = Wrong, err.Error()
			case !st.Mode().IsRegular():
				f.Class, f.Text = Wrong, "is not a regular file"
			case st.Size() != b.Size:
				f.Class, f.Text = Wrong, fmt.Sprintf("has %d bytes, and its record says %d", st.Size(), b.Size)
			default:
				continue
			}
			c.find(f)
		}
	}
	return c.blobs(ctx, sizes)
}

func (c *checker) blobPath(d digest.Digest) string {
	return filepath.Join(c.contentDir(), "blobs", d.Algorithm().String(), d.Encoded())
}

// blobs looks at each file: whether it has a record, and what is in it.
func (c *checker) blobs(ctx context.Context, recorded map[digest.Digest]int64) error {
	files, err := filepath.Glob(filepath.Join(c.contentDir(), "blobs", "*", "*"))
	if err != nil {
		return err
	}
	for _, path := range files {
		if err := ctx.Err(); err != nil {
			return err
		}
		d := digest.NewDigestFromEncoded(digest.Algorithm(filepath.Base(filepath.Dir(path))), filepath.Base(path))
		f := Finding{Kind: "blob", Name: d.String(), Path: path}
		if d.Validate() != nil {
			f.Class, f.Name, f.Text = Orphan, filepath.Base(path), "is not named by a digest"
			c.find(f)
			continue
		}
		if _, ok := recorded[d]; !ok {
			f.Class, f.Text = Orphan, "no namespace has a record of it"
			c.find(f)
		}
		if !c.Deep {
			continue
		}
		if err := verify(path, d); err != nil {
			f.Class, f.Text = Wrong, err.Error()
			c.find(f)
		}
	}
	return nil
}

func verify(path string, d digest.Digest) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer file.Close()
	v := d.Verifier()
	if _, err := io.Copy(v, file); err != nil {
		return err
	}
	if !v.Verified() {
		return fmt.Errorf("its content has another digest")
	}
	return nil
}

// ingests checks that each is whole and of a namespace that there is, and that records of
// leased ones have theirs.
func (c *checker) ingests(records, boot metadata.Inspection) {
	known := map[string]bool{}
	for _, ns := range records.Namespaces {
		known[ns.Name] = true
	}
	there := map[string]bool{}
	dirs, _ := filepath.Glob(filepath.Join(c.contentDir(), "ingest", "*"))
	for _, dir := range dirs {
		f := Finding{Kind: "ingest", Name: filepath.Base(dir), Path: dir}
		raw, err := os.ReadFile(filepath.Join(dir, "ref"))
		sum := sha256.Sum256(raw)
		switch ns, ref, ok := strings.Cut(string(raw), "/"); {
		case err != nil || len(raw) == 0:
			f.Class, f.Text = Orphan, "has no reference"
		case hex.EncodeToString(sum[:]) != filepath.Base(dir):
			f.Class, f.Text = Wrong, "its directory is not that of its reference"
		case !ok || !known[ns]:
			f.Class, f.Name, f.Text = Orphan, string(raw), "is of no namespace that there is"
		default:
			there[string(raw)] = true
			if _, err := os.Stat(filepath.Join(dir, "startedat")); err == nil {
				continue
			}
			f.Class, f.Namespace, f.Name, f.Text = Wrong, ns, ref, "does not say when it was begun"
		}
		c.find(f)
	}
	for _, ns := range append(records.Namespaces, boot.Namespaces...) {
		for _, ref := range ns.Ingests {
			if !there[ns.Name+"/"+ref] {
				c.find(Finding{Class: Lost, Kind: "ingest", Namespace: ns.Name, Name: ref, Text: "its record has no ingest"})
			}
		}
	}
}
