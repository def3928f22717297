package main

import (
	"os/exec"
	"strings"
	"testing"

	"gantry/internal/testutil/need"
)

// TestImports keeps out of grun what would cost each of its commands a coming up.
func TestImports(t *testing.T) {
	out, err := exec.Command(need.Command(t, "go"), "list", "-deps", "gantry/cmd/grun").Output()
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(pkg, "google.golang.org/") || pkg == "net/http" || pkg == "crypto/tls" {
			t.Errorf("grun imports %s", pkg)
		}
	}
}
