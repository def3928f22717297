package image

// Labels that the core's garbage collector follows, and others that containerd's
// clients know; see containerd's docs/garbage-collection.md.
const (
	labelRefSnapshot  = "containerd.io/gc.ref.snapshot."     // + the snapshotter's name
	labelRoot         = "containerd.io/gc.root"              // keeps what carries it
	labelExpire       = "containerd.io/gc.expire"            // on leases, RFC 3339
	labelUncompressed = "containerd.io/uncompressed"         // on layers: the diff id
	labelSource       = "containerd.io/distribution.source." // + registry host: repositories, joined by commas
	// labelParent names the image that Docker's classic builder started from.
	labelParent = "org.mobyproject.image.parent"
	// labelPrunable marks leases that image prune may drop.
	labelPrunable = "moby/prune.images"
	// labelResumable marks those whose content is kept when the daemon has died.
	labelResumable = "gantry/resumable"
)

// Annotations of descriptors.
const (
	annotationName          = "io.containerd.image.name"
	annotationReferenceType = "vnd.docker.reference.type"
	annotationReferenceFor  = "vnd.docker.reference.digest"
)
