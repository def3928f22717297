package plugin

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/docker/go-connections/tlsconfig"

	"gantry/api/errdefs"
)

// maxSpec bounds a plugin's description, in bytes.
const maxSpec = 64 << 10

// place is how a plugin is reached.
type place struct {
	Addr      string
	TLSConfig *tlsconfig.Options
}

// find looks a plugin up; NotFound when there is none.
func find(dirs Directories, name string) (place, error) {
	for _, path := range candidates(dirs.Sockets, name, ".sock") {
		if fi, err := os.Stat(path); err == nil && fi.Mode()&os.ModeSocket != 0 {
			return place{Addr: "unix://" + path}, nil
		}
	}
	for _, path := range candidates(dirs.Specs, name, ".spec", ".json") {
		raw, err := read(path)
		if os.IsNotExist(err) {
			continue
		}
		if err != nil {
			return place{}, fmt.Errorf("read plugin %s: %w", name, err)
		}
		p, err := parse(raw, filepath.Ext(path))
		if err != nil {
			return place{}, fmt.Errorf("read plugin %s: %w", name, err)
		}
		return p, nil
	}
	return place{}, errdefs.NotFound("plugin %q not found", name)
}

func candidates(dirs []string, name string, exts ...string) (paths []string) {
	for _, dir := range dirs {
		for _, ext := range exts {
			paths = append(paths, filepath.Join(dir, name+ext), filepath.Join(dir, name, name+ext))
		}
	}
	return paths
}

func read(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxSpec))
}

// parse reads a description. It is pure.
func parse(raw []byte, ext string) (p place, err error) {
	if ext == ".json" {
		err = json.Unmarshal(raw, &p)
	} else {
		p.Addr = strings.TrimSpace(string(raw))
	}
	if err != nil {
		return place{}, err
	}
	u, err := url.Parse(p.Addr)
	switch {
	case err != nil:
		return place{}, err
	case u.Scheme == "":
		return place{}, fmt.Errorf("unknown protocol in address %q", p.Addr)
	case u.Scheme != "unix" && u.Scheme != "tcp" && u.Scheme != "http" && u.Scheme != "https":
		return place{}, fmt.Errorf("protocol %s is not supported", u.Scheme)
	}
	if p.TLSConfig != nil && p.TLSConfig.CAFile == "" {
		p.TLSConfig.InsecureSkipVerify = true // as Docker has it: nothing to verify with
	}
	return p, nil
}
