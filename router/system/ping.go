package system

import (
	"context"
	"net/http"

	"github.com/docker/docker/api/types/build"
	"github.com/docker/docker/api/types/swarm"
)

// ping answers without asking anybody: it is how clients learn the version, and a
// probe must not hang behind a busy engine.
//
// Builder-Version recommends the classic builder while there is no BuildKit: clients
// that follow it get the engine's own clear answer to a build.
func ping(_ context.Context, w http.ResponseWriter, req *http.Request) error {
	h := w.Header()
	h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
	h.Set("Pragma", "no-cache")
	h.Set("Builder-Version", string(build.BuilderV1))
	h.Set("Swarm", string(swarm.LocalNodeStateInactive))
	h.Set("Content-Type", "text/plain; charset=utf-8")
	if req.Method == http.MethodHead {
		h.Set("Content-Length", "0")
		return nil
	}
	_, err := w.Write([]byte("OK"))
	return err
}
