package task

import (
	"context"
	"fmt"
	"os"
	"sync"

	"github.com/containerd/containerd/api/types"
	"github.com/containerd/typeurl/v2"
	"google.golang.org/protobuf/proto"

	"gantry/libctr/core/wire"
)

// infoCache keeps what shim binaries say about themselves, until the file changes.
type infoCache struct {
	mu    sync.Mutex
	known map[infoKey]*types.RuntimeInfo // guarded by mu
}

type infoKey struct {
	binary  file
	options string
}

// Info asks the shim binary of a runtime about itself (its "-info" call); the
// answer is shared and must not be changed. options are the runtime's, or nil.
func (m *Manager) Info(ctx context.Context, runtime string, options typeurl.Any) (*types.RuntimeInfo, error) {
	binary, err := m.resolve(runtime)
	if err != nil {
		return nil, err
	}
	id, err := identify(binary)
	if err != nil {
		return nil, fmt.Errorf("runtime %s: %w", runtime, err)
	}
	var stdin []byte
	if options != nil {
		if stdin, err = proto.Marshal(wire.Any(options)); err != nil {
			return nil, fmt.Errorf("runtime options: %w", err)
		}
	}
	k := infoKey{id, string(stdin)}
	if info := m.info.get(k); info != nil {
		return info, nil
	}
	ctx, cancel := context.WithTimeout(ctx, binaryTimeout)
	defer cancel()
	out, err := command{binary: binary, args: []string{"-info"}, env: shimEnv(os.Environ()), stdin: stdin}.run(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s -info: %w", binary, err)
	}
	info := new(types.RuntimeInfo)
	if err := proto.Unmarshal(out, info); err != nil {
		return nil, fmt.Errorf("%s -info: answer: %w", binary, err)
	}
	m.info.put(k, info)
	return info, nil
}

func (c *infoCache) get(k infoKey) *types.RuntimeInfo {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known[k]
}

// put forgets everything when there is too much: clients choose the options.
func (c *infoCache) put(k infoKey, info *types.RuntimeInfo) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.known == nil || len(c.known) >= 64 {
		c.known = map[infoKey]*types.RuntimeInfo{}
	}
	c.known[k] = info
}
