package container_test

import (
	"testing"

	"gantry/internal/testutil/transcript"
	"gantry/router/container"
	"gantry/router/internal/routertest"
)

// testdata/wire pins answers as any engine gives them; testdata/decode pins what the
// routes make of a request, by the name "echo".
func TestTranscripts(t *testing.T) {
	dial := routertest.Serve(t, container.New(world{}, container.Config{CgroupV1: true}))
	transcript.Run(t, dial, "testdata/wire/*.txt", names)
	transcript.Run(t, dial, "testdata/decode/*.txt", names)
}
