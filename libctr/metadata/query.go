package metadata

import (
	"context"

	"gantry/libctr/filter"
)

// query is what a list is asked for: a namespace, and which of its records.
func query(ctx context.Context, filters []string) (ns string, match filter.Filter, err error) {
	if ns, err = namespaceOf(ctx); err == nil {
		match, err = filter.Parse(filters...)
	}
	return ns, match, err
}

// fieldsOf are those of a record that filters know by its name, under that key, and its
// labels.
func fieldsOf(key, name string, labels map[string]string) filter.Fields {
	return func(path []string) (string, bool) {
		switch path[0] {
		case key:
			return name, true
		case "labels":
			return filter.Label(labels, path[1:])
		}
		return "", false
	}
}
