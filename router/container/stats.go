package container

import (
	"encoding/json"
	"net/http"

	containertypes "github.com/docker/docker/api/types/container"

	"gantry/router/httputil"
)

// statsEmitter writes one JSON object per sample, flushed; the first one commits the 200.
func statsEmitter(w http.ResponseWriter) func(*containertypes.StatsResponse) error {
	enc := json.NewEncoder(httputil.Flushed(w))
	return func(s *containertypes.StatsResponse) error {
		w.Header().Set("Content-Type", "application/json")
		return enc.Encode(s)
	}
}
