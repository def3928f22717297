// Package hooks runs the lifecycle hooks of an OCI bundle.
package hooks
