// Package transfer names the movement of images between the core's store, registries and
// archives in streams. What can be moved where:
//
//	Registry    → ImageStore   pull
//	ImageStore  → Registry     push
//	Import      → ImageStore   import
//	ImageStore  → Export       export
//	ImageStore  → ImageStore   tag
//	Import      → Export       the bytes themselves
package transfer

import (
	"context"
	"fmt"
	"io"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Transferrer moves images. Safe for concurrent use.
type Transferrer interface {
	// Transfer moves from source to destination in the namespace of ctx, under its lease
	// or one of its own. A pair that is not in the table above is NotImplemented.
	Transfer(ctx context.Context, source, destination End, o Options) error
}

// Options are a transfer's.
type Options struct {
	// Progress hears what is done, in order, one call at a time; nil for nobody.
	Progress func(Progress)
}

// Progress is one thing that has happened. Names and events are containerd's: "waiting",
// "downloading", "complete" … of a blob, whole sentences without a Name of the transfer.
type Progress struct {
	Event    string
	Name     string
	Parents  []string
	Progress int64 // bytes
	Total    int64 // bytes
	Desc     *ocispec.Descriptor
}

// End is a source or a destination: *Registry, *ImageStore, *Import or *Export.
type End interface {
	fmt.Stringer
	end()
}

// Registry is an image in a registry.
type Registry struct {
	Reference     string // HOST/NAME:TAG, HOST/NAME@DIGEST or both
	Headers       map[string]string
	HostDir       string // of hosts.toml files by host, "" for none
	DefaultScheme string // "" is https, and http for the local host
	Credentials   Credentials
	Debug         Debug
	DebugLog      io.Writer // takes what Debug asks for; nil is the core's log
}

// Credentials are asked for when a registry wants them. Safe for concurrent use.
type Credentials interface {
	// Get returns what to tell the host.
	Get(ctx context.Context, ref, host string) (Secret, error)
}

// Secret is a name with its password, a token that lives long (no name), or a value of the
// header Authorization.
type Secret struct {
	Username string
	Secret   string
	Header   string
}

// Debug says what of HTTP is written out; it may hold secrets.
type Debug uint8

const (
	DebugNone Debug = iota
	DebugMessages
	DebugTrace // connections
	DebugBoth
)

// ImageStore is an image, or what images are to be made, in the core.
type ImageStore struct {
	Name            string
	Labels          map[string]string
	Platforms       []ocispec.Platform // those that are moved, all when there are none
	AllMetadata     bool               // manifests and configs of the other platforms too
	ManifestLimit   int                // how many of an index, 0 for all
	ExtraReferences []Reference
	Unpacks         []Unpack
}

// Reference makes or finds a further name; see containerd's transfer types.
type Reference struct {
	Name            string
	IsPrefix        bool // the rest comes from the image
	AllowOverwrite  bool // a whole name of the image's own is taken
	AddDigest       bool // a name with the digest too
	SkipNamedDigest bool // but not of what has another name
}

// Unpack says what is to be unpacked after a pull or an import.
type Unpack struct {
	Platform    ocispec.Platform
	Snapshotter string // "" is the platform's default
}

// Import is a tar of images.
type Import struct {
	Stream        io.Reader
	MediaType     string // "" finds out whether it is compressed
	ForceCompress bool   // layers get compressed
}

// Export is where a tar of images goes.
type Export struct {
	Stream               io.WriteCloser
	MediaType            string
	Platforms            []ocispec.Platform // none is the host's
	AllPlatforms         bool
	SkipDockerManifest   bool
	SkipNonDistributable bool
}

func (*Registry) end()   {}
func (*ImageStore) end() {}
func (*Import) end()     {}
func (*Export) end()     {}

func (r *Registry) String() string   { return fmt.Sprintf("OCI Registry (%s)", r.Reference) }
func (s *ImageStore) String() string { return fmt.Sprintf("Local Image Store (%s)", s.Name) }
func (*Import) String() string       { return "Image Import Stream" }
func (*Export) String() string       { return "Image Export Stream" }
