package server

import (
	"context"

	"github.com/containerd/platforms"
	"github.com/containerd/plugin"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/libctr/client"
)

// proxies are the plugins that run in other processes. One connection serves all
// plugins of an address. A type that is not known is reported and left out.
func (b *builder) proxies() []*plugin.Registration {
	pool := &proxyPool{graph: b.graph, clients: map[string]*client.Client{}}
	var out []*plugin.Registration
	for name, p := range b.cfg.ProxyPlugins {
		typ, pick := proxyType(p.Type)
		if pick == nil {
			b.log.Warn("proxy plugin has an unknown type", "plugin", name, "type", p.Type)
			continue
		}
		out = append(out, &plugin.Registration{Type: typ, ID: name, InitFn: func(ic *plugin.InitContext) (any, error) {
			return initProxy(ic, name, p, pool, pick)
		}})
	}
	return out
}

func initProxy(ic *plugin.InitContext, name string, p ProxyPlugin, pool *proxyPool, pick func(*client.Client, string) any) (any, error) {
	c, err := pool.get(p.Address)
	if err != nil {
		return nil, err
	}
	platform := platforms.DefaultSpec()
	if p.Platform != "" {
		if platform, err = platforms.Parse(p.Platform); err != nil {
			return nil, err
		}
	}
	ic.Meta.Platforms = []ocispec.Platform{platform}
	ic.Meta.Exports["address"] = p.Address
	for k, v := range p.Exports {
		ic.Meta.Exports[k] = v
	}
	ic.Meta.Capabilities = append(ic.Meta.Capabilities, p.Capabilities...)
	return pick(c, name), nil
}

// proxyType maps the configuration's word to the plugin type and the proxy.
func proxyType(word string) (plugin.Type, func(*client.Client, string) any) {
	switch word {
	case "snapshot", string(typeSnapshotter):
		return typeSnapshotter, func(c *client.Client, name string) any { return c.Snapshotter(name) }
	case "content", string(typeContent):
		return typeContent, func(c *client.Client, _ string) any { return c.Content() }
	case "diff", string(typeDiffer):
		return typeDiffer, func(c *client.Client, _ string) any { return c.Differ() }
	case "sandbox", string(typeSandboxController):
		return typeSandboxController, func(c *client.Client, name string) any { return c.SandboxController(name) }
	}
	return "", nil
}

// proxyPool shares connections by address; used while the plugins are initialised,
// which is one goroutine.
type proxyPool struct {
	graph   *graph
	clients map[string]*client.Client
}

func (p *proxyPool) get(address string) (*client.Client, error) {
	if c, ok := p.clients[address]; ok {
		return c, nil
	}
	c, err := client.New(address)
	if err != nil {
		return nil, err
	}
	p.clients[address] = c
	p.graph.onClose("proxy "+address, func(context.Context) error { return c.Close() })
	return c, nil
}
