package build_test

import (
	"testing"

	"gantry/internal/testutil/transcript"
	"gantry/router/build"
	"gantry/router/internal/routertest"
)

func TestTranscripts(t *testing.T) {
	transcript.Run(t, routertest.Serve(t, build.New()), "testdata/*.txt", nil)
}
