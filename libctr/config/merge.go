package config

import (
	"reflect"
	"slices"
)

// merge lays a file over those before it:
//
//   - lists of the top level and of its sections (disabled_plugins, imports) are united;
//   - proxy_plugins, stream_processors and timeouts: an entry replaces the one of the
//     same name whole;
//   - plugins: tables are merged at any depth, all else in them is replaced;
//   - everything else: what a later file sets wins, but for empty text, zero and false,
//     which count as not set.
func merge(to, from Tree) {
	for key, v := range from {
		switch key {
		case "version":
		case "plugins":
			mergeTables(table(to, key), v, mergePlugin)
		case "proxy_plugins", "stream_processors", "timeouts":
			mergeTables(table(to, key), v, func(to Tree, key string, v any) { to[key] = v })
		default:
			mergeSetting(to, key, v)
		}
	}
}

// table returns the table of that name, made when it is not there.
func table(in Tree, key string) Tree {
	t, ok := in[key].(Tree)
	if !ok {
		t = Tree{}
		in[key] = t
	}
	return t
}

func mergeTables(to Tree, from any, one func(to Tree, key string, v any)) {
	t, _ := from.(Tree)
	for key, v := range t {
		one(to, key, v)
	}
}

func mergePlugin(to Tree, key string, v any) {
	if _, ok := v.(Tree); ok {
		mergeTables(table(to, key), v, mergePlugin)
		return
	}
	to[key] = v
}

func mergeSetting(to Tree, key string, v any) {
	switch v := v.(type) {
	case Tree:
		mergeTables(table(to, key), v, mergeSetting)
	case []any:
		to[key] = unite(to[key], v)
	default:
		if _, there := to[key]; !there || !reflect.ValueOf(v).IsZero() {
			to[key] = v
		}
	}
}

// unite appends what the first list does not have.
func unite(first any, second []any) []any {
	out, _ := first.([]any)
	out = slices.Clone(out)
	for _, v := range second {
		if !slices.ContainsFunc(out, func(had any) bool { return reflect.DeepEqual(had, v) }) {
			out = append(out, v)
		}
	}
	return out
}
