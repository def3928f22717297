package system

import (
	"net"

	"github.com/docker/docker/api/types/registry"
)

// registryConfig shows which registries the engine treats how. Loopback addresses are
// always insecure. It is pure.
func registryConfig(insecure, mirrors []string) *registry.ServiceConfig {
	c := &registry.ServiceConfig{
		Mirrors: append([]string{}, mirrors...),
		IndexConfigs: map[string]*registry.IndexInfo{
			"docker.io": {Name: "docker.io", Mirrors: append([]string{}, mirrors...), Secure: true, Official: true},
		},
	}
	for _, r := range append([]string{"::1/128", "127.0.0.0/8"}, insecure...) {
		if _, cidr, err := net.ParseCIDR(r); err == nil {
			c.InsecureRegistryCIDRs = append(c.InsecureRegistryCIDRs, (*registry.NetIPNet)(cidr))
			continue
		}
		c.IndexConfigs[r] = &registry.IndexInfo{Name: r, Mirrors: []string{}}
	}
	return c
}
