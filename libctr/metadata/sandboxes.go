package metadata

import (
	"context"
	"maps"
	"strings"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/typeurl/v2"
	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"

	"gantry/api/errdefs"
	"gantry/libctr/core/sandbox"
	"gantry/libctr/core/wire"
	"gantry/libctr/label"
)

const bucketSandboxes = "sandboxes"

// Sandboxes is the store of sandboxes' records on this file. Nothing else holds them, and
// they go only when they are deleted; what their labels refer to is held meanwhile.
func (db *DB) Sandboxes() sandbox.Store { return sandboxStore{db} }

type sandboxStore struct{ db *DB }

var _ sandbox.Store = sandboxStore{}

func (s sandboxStore) Get(ctx context.Context, id string) (out sandbox.Sandbox, err error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return out, err
	}
	err = s.db.view(func(tx *bbolt.Tx) error {
		out, err = getSandbox(tx, ns, id)
		return err
	})
	return out, err
}

func getSandbox(tx *bbolt.Tx, ns, id string) (sandbox.Sandbox, error) {
	var m types.Sandbox
	found, err := get(bucket(tx, ns, bucketSandboxes), id, &m)
	if err == nil && !found {
		err = errdefs.NotFound("sandbox %q in namespace %q: not found", id, ns)
	}
	return wire.FromSandbox(&m), err
}

func (s sandboxStore) List(ctx context.Context, filters ...string) ([]sandbox.Sandbox, error) {
	ns, match, err := query(ctx, filters)
	if err != nil {
		return nil, err
	}
	var out []sandbox.Sandbox
	err = s.db.view(func(tx *bbolt.Tx) error {
		return each(bucket(tx, ns, bucketSandboxes), func(id string, v []byte) error {
			var m types.Sandbox
			if err := proto.Unmarshal(v, &m); err != nil {
				s.db.passOver(ns, "sandbox", id, err)
				return nil
			}
			if sb := wire.FromSandbox(&m); match.Match(fieldsOf("id", sb.ID, sb.Labels)) {
				out = append(out, sb)
			}
			return nil
		})
	})
	return out, err
}

func (s sandboxStore) Create(ctx context.Context, sb sandbox.Sandbox) (sandbox.Sandbox, error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return sb, err
	}
	if err := checkSandbox(sb); err != nil {
		return sb, err
	}
	sb.Labels = label.Clean(sb.Labels)
	sb.CreatedAt = s.db.now().UTC()
	sb.UpdatedAt = sb.CreatedAt
	err = s.db.update(ctx, func(tx *bbolt.Tx) error {
		b, err := makeBucket(tx, ns, bucketSandboxes)
		if err != nil {
			return err
		}
		if b.Get([]byte(sb.ID)) != nil {
			return errdefs.AlreadyExists("sandbox %q: already exists", sb.ID)
		}
		return put(b, sb.ID, wire.Sandbox(sb))
	})
	return sb, err
}

func (s sandboxStore) Update(ctx context.Context, sb sandbox.Sandbox, paths ...string) (out sandbox.Sandbox, err error) {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return out, err
	}
	err = s.db.update(ctx, func(tx *bbolt.Tx) error {
		old, err := getSandbox(tx, ns, sb.ID)
		if err != nil {
			return err
		}
		if out, err = mergeSandbox(old, sb, paths); err != nil {
			return err
		}
		out.UpdatedAt = s.db.now().UTC()
		return put(bucket(tx, ns, bucketSandboxes), sb.ID, wire.Sandbox(out))
	})
	return out, err
}

// mergeSandbox takes what the field paths name from s; all that may change when there
// are none, and then what may not must be equal.
func mergeSandbox(old, s sandbox.Sandbox, paths []string) (sandbox.Sandbox, error) {
	if len(paths) == 0 {
		paths = []string{"labels", "extensions", "spec", "runtime"}
		if old.Runtime.Name != s.Runtime.Name {
			return old, errdefs.InvalidArgument("sandbox.Runtime.Name field is immutable")
		}
	}
	out := old
	for _, path := range paths {
		if err := mergeSandboxField(&out, s, path); err != nil {
			return old, err
		}
	}
	return out, checkSandbox(out)
}

func mergeSandboxField(out *sandbox.Sandbox, s sandbox.Sandbox, path string) (err error) {
	switch {
	case path == "labels" || strings.HasPrefix(path, "labels."):
		out.Labels, err = label.Update(out.Labels, s.Labels, path)
	case path == "extensions":
		out.Extensions = s.Extensions
	case strings.HasPrefix(path, "extensions."):
		out.Extensions = withExtension(out.Extensions, strings.TrimPrefix(path, "extensions."), s.Extensions)
	case path == "runtime":
		out.Runtime = s.Runtime
	case path == "spec":
		out.Spec = s.Spec
	default:
		err = errdefs.InvalidArgument("cannot update %q field on sandbox %q", path, s.ID)
	}
	return err
}

// withExtension is old with the key as it is in from, or without it.
func withExtension(old map[string]typeurl.Any, key string, from map[string]typeurl.Any) map[string]typeurl.Any {
	out := maps.Clone(old)
	if out == nil {
		out = make(map[string]typeurl.Any)
	}
	if v := from[key]; v != nil {
		out[key] = v
	} else {
		delete(out, key)
	}
	return out
}

func checkSandbox(s sandbox.Sandbox) error {
	if err := checkIdentifier("sandbox id", s.ID); err != nil {
		return err
	}
	for name := range s.Extensions {
		if name == "" {
			return errdefs.InvalidArgument("sandbox %q: extension key must not be empty", s.ID)
		}
	}
	return label.Validate(s.Labels)
}

func (s sandboxStore) Delete(ctx context.Context, id string) error {
	ns, err := namespaceOf(ctx)
	if err != nil {
		return err
	}
	return s.db.update(ctx, func(tx *bbolt.Tx) error {
		if _, err := getSandbox(tx, ns, id); err != nil {
			return err
		}
		return bucket(tx, ns, bucketSandboxes).Delete([]byte(id))
	})
}
