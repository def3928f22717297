// Package lease names what holds resources against the garbage collector.
package lease

import (
	"context"
	"time"
)

// Lease holds its resources until it is deleted or expires (label
// "containerd.io/gc.expire", RFC 3339).
type Lease struct {
	ID        string
	CreatedAt time.Time
	Labels    map[string]string
}

// Resource is something that a lease holds: Type "content", "ingests" or
// "snapshots/NAME", and its id.
type Resource struct {
	ID   string
	Type string
}

// Manager keeps leases. Safe for concurrent use. A context made by With
// adds everything created under it to the lease; it crosses gRPC as the header
// containerd-lease.
type Manager interface {
	// Create makes a lease; an empty id gets a random one.
	Create(ctx context.Context, id string, labels map[string]string) (Lease, error)
	// Delete drops the lease; with sync the GC has run when it returns.
	Delete(ctx context.Context, id string, sync bool) error
	List(ctx context.Context, filters ...string) ([]Lease, error)
	AddResource(ctx context.Context, id string, r Resource) error
	DeleteResource(ctx context.Context, id string, r Resource) error
	ListResources(ctx context.Context, id string) ([]Resource, error)
}

type key struct{}

// With returns ctx under the lease id.
func With(ctx context.Context, id string) context.Context { return context.WithValue(ctx, key{}, id) }

// From returns the lease of ctx, or "".
func From(ctx context.Context) string { s, _ := ctx.Value(key{}).(string); return s }
