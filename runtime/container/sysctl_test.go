package container

import (
	"testing"

	"github.com/opencontainers/runtime-spec/specs-go"
)

func TestSysctlOfOurNamespaceByPath(t *testing.T) {
	net := specs.LinuxNamespace{Type: specs.NetworkNamespace, Path: "/proc/self/ns/net"}
	err := notOurs(net, map[string]string{"kernel.msgmax": "1", "net.ipv4.ip_forward": "1"})
	if want := `sysctl "net.ipv4.ip_forward" not allowed in host network namespace: invalid argument`; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if err := notOurs(net, map[string]string{"kernel.msgmax": "1"}); err != nil {
		t.Errorf("a sysctl of another namespace: %v", err)
	}
}
