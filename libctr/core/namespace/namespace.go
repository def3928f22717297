// Package namespace names the core's name spaces, each with records of its own.
package namespace

import "context"

// Store keeps namespaces. Creating a record makes its namespace. Safe for concurrent use.
type Store interface {
	Create(ctx context.Context, name string, labels map[string]string) error
	// Labels of a namespace that there is not are none.
	Labels(ctx context.Context, name string) (map[string]string, error)
	// SetLabel and SetLabels make the namespace where there is none. An empty value
	// removes a label; SetLabels also those it does not name.
	SetLabel(ctx context.Context, name, key, value string) error
	SetLabels(ctx context.Context, name string, labels map[string]string) error
	List(ctx context.Context) ([]string, error)
	// Delete fails with FailedPrecondition while the namespace has containers, images,
	// blobs or snapshots. Its leases go with it.
	Delete(ctx context.Context, name string) error
}
