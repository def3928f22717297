package boot_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestImports keeps out of the shim what would cost each container memory.
func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-tags", "no_grpc", "-deps", "gantry/cmd/containerd-shim-gantry-v2").Output()
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range strings.FieldsSeq(string(out)) {
		// What codes and status themselves need is small and can't be avoided.
		grpc := strings.HasPrefix(pkg, "google.golang.org/grpc")
		switch strings.TrimPrefix(pkg, "google.golang.org/grpc/") {
		case "codes", "status", "internal/status", "internal", "connectivity", "grpclog", "grpclog/internal", "serviceconfig":
			grpc = false
		}
		if grpc || pkg == "net/http" || pkg == "crypto/tls" || strings.HasPrefix(pkg, "go.opentelemetry.io/") {
			t.Errorf("the shim imports %s", pkg)
		}
	}
}
