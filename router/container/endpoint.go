package container

import networktypes "github.com/docker/docker/api/types/network"

func cloneEndpoints(in map[string]*networktypes.EndpointSettings) map[string]*networktypes.EndpointSettings {
	out := make(map[string]*networktypes.EndpointSettings, len(in))
	for name, ep := range in {
		if ep != nil {
			ep = ep.Copy()
		}
		out[name] = ep
	}
	return out
}
