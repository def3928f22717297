package content_test

import (
	"context"
	"testing"

	corecontent "gantry/libctr/core/content"

	"gantry/libctr/content"
	"gantry/libctr/content/contenttest"
)

func TestStore(t *testing.T) {
	contenttest.Run(t, contenttest.Options{NoLabels: true}, func(t *testing.T) (context.Context, corecontent.Store) {
		s, err := content.New(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return t.Context(), s
	})
}
