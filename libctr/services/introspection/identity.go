package introspection

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	introspectionapi "github.com/containerd/containerd/api/services/introspection/v1"
	"github.com/google/uuid"
)

// identity is the core's UUID on disk.
type identity struct {
	dir string
	mu  sync.Mutex // one maker of the file; held over its small read or write
}

func (i *identity) describe() (*introspectionapi.ServerResponse, error) {
	id, err := i.uuid()
	if err != nil {
		return nil, err
	}
	ns, err := pidNamespace()
	if err != nil {
		return nil, err
	}
	return &introspectionapi.ServerResponse{UUID: id, Pid: uint64(os.Getpid()), Pidns: ns}, nil
}

// uuid reads the file, or makes it. It is read each time: a root that was put
// back in another state is another core.
func (i *identity) uuid() (string, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	path := filepath.Join(i.dir, "uuid")
	data, err := os.ReadFile(path)
	if err == nil {
		if id, err := uuid.ParseBytes([]byte(strings.TrimSpace(string(data)))); err == nil {
			return id.String(), nil
		}
	} else if !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("read identity: %w", err)
	}
	return i.make(path)
}

func (i *identity) make(path string) (string, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return "", fmt.Errorf("make identity: %w", err)
	}
	if err := os.MkdirAll(i.dir, 0o711); err != nil {
		return "", fmt.Errorf("make identity: %w", err)
	}
	tmp, err := os.CreateTemp(i.dir, ".uuid-")
	if err != nil {
		return "", fmt.Errorf("make identity: %w", err)
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.WriteString(id.String())
	err = errors.Join(err, tmp.Sync(), tmp.Close())
	if err == nil {
		err = os.Rename(tmp.Name(), path)
	}
	if err != nil {
		return "", fmt.Errorf("make identity: %w", err)
	}
	return id.String(), nil
}

func pidNamespace() (uint64, error) {
	var st syscall.Stat_t
	if err := syscall.Stat("/proc/self/ns/pid", &st); err != nil {
		return 0, fmt.Errorf("pid namespace: %w", err)
	}
	return st.Ino, nil
}
