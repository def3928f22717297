package boot

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"

	bootstrapapi "github.com/containerd/containerd/api/runtime/bootstrap/v1"
	"google.golang.org/protobuf/proto"
)

// maxParams bounds what stdin may hold, in bytes.
const maxParams = 4 << 20

// readParams reads a BootstrapParams message from stdin, nil when the caller
// does not send one. The options that older callers send are an Any, which has
// the same shape: only a message about this very container counts.
func (a args) readParams(stdin io.Reader) (*bootstrapapi.BootstrapParams, error) {
	raw, err := io.ReadAll(io.LimitReader(stdin, maxParams))
	if err != nil || len(raw) == 0 {
		return nil, err
	}
	p := new(bootstrapapi.BootstrapParams)
	if proto.Unmarshal(raw, p) != nil || p.InstanceID != a.id || p.Namespace != a.namespace {
		return nil, nil
	}
	return p, nil
}

// answer is how to reach the shim, as the caller understands it.
func answer(p *bootstrapapi.BootstrapParams, address string) []byte {
	if p == nil {
		return []byte(address)
	}
	raw, _ := json.Marshal(struct { // plain fields always marshal
		Version  int    `json:"version"`
		Address  string `json:"address"`
		Protocol string `json:"protocol"`
	}{3, address, "ttrpc"})
	return raw
}

const (
	// maxSocketPath is what fits a socket address with its zero.
	maxSocketPath = 107
	// farDir serves engines whose own directory is too long a path.
	farDir = "/run/gantry-shim"
)

// socketPath names the socket of a group of containers. The name is a digest, so
// that it fits, and differs for every engine.
func (a args) socketPath(p *bootstrapapi.BootstrapParams, group string) string {
	engine := strings.TrimPrefix(a.address, "unix://")
	sum := sha256.Sum256([]byte(filepath.Join(engine, a.namespace, group)))
	name := hex.EncodeToString(sum[:])
	for _, dir := range []string{p.GetSocketDir(), filepath.Join(filepath.Dir(engine), "s")} {
		if filepath.IsAbs(dir) && len(dir)+1+len(name) <= maxSocketPath && canBeDir(dir) {
			return filepath.Join(dir, name)
		}
	}
	return filepath.Join(farDir, name)
}

// canBeDir says whether a directory is at the path or can be made there: an engine's own
// socket may have that name.
func canBeDir(path string) bool {
	st, err := os.Stat(path)
	return err != nil || st.IsDir()
}
