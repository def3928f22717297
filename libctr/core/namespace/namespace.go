// Package namespace names the core's name spaces, each with records of its own.
package namespace

import "context"

// Store keeps namespaces. Creating a record makes its namespace. Safe for concurrent use.
type Store interface {
	Create(ctx context.Context, name string, labels map[string]string) error
	// Labels of a namespace that there is not are none.
	Labels(ctx context.Context, name string) (map[string]string, error)
	SetLabel(ctx context.Context, name, key, value string) error // "" removes the label
	List(ctx context.Context) ([]string, error)
	// Delete fails with FailedPrecondition while the namespace holds records.
	Delete(ctx context.Context, name string) error
}
