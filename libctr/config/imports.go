package config

import (
	"fmt"
	"path/filepath"
	"strings"

	"gantry/api/errdefs"
)

// imports are the files that a tree names, relative to its own place; a name with an
// asterisk is a pattern, of which there may be none. A file that is named must be
// there.
func (s source) imports(tree Tree) (out []source, err error) {
	list, _ := tree["imports"].([]any)
	for _, v := range list {
		path, ok := v.(string)
		if !ok || path == "" {
			return nil, s.wrap(errdefs.InvalidArgument("configuration %s: imports: %v is no path", s.path, v))
		}
		if !filepath.IsAbs(path) {
			path = filepath.Join(filepath.Dir(s.path), path)
		}
		paths, err := expand(filepath.Clean(path))
		if err != nil {
			return nil, s.wrap(errdefs.InvalidArgument("configuration %s: %w", s.path, err))
		}
		for _, p := range paths {
			out = append(out, source{path: p, from: s.path})
		}
	}
	return out, nil
}

func expand(path string) ([]string, error) {
	if !strings.Contains(path, "*") {
		return []string{path}, nil
	}
	paths, err := filepath.Glob(path)
	if err != nil {
		return nil, fmt.Errorf("imports: %s: %w", path, err)
	}
	return paths, nil
}
