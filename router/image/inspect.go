package image

import (
	"context"
	"encoding/json"

	imagetypes "github.com/docker/docker/api/types/image"

	"gantry/api/rest"
)

// alwaysThere are the fields of Config that are shown even when empty, though the
// image's own JSON leaves them out.
var alwaysThere = map[string]json.RawMessage{
	"Cmd": null, "Entrypoint": null, "Env": null, "Labels": null, "OnBuild": null,
	"User": empty, "Volumes": null, "WorkingDir": empty,
}

// onceThere are fields of a container's Config that older versions showed as well,
// always empty.
var onceThere = map[string]json.RawMessage{
	"AttachStderr": no, "AttachStdin": no, "AttachStdout": no, "Domainname": empty,
	"Hostname": empty, "Image": empty, "OpenStdin": no, "StdinOnce": no, "Tty": no,
}

var (
	null  = json.RawMessage("null")
	empty = json.RawMessage(`""`)
	no    = json.RawMessage("false")
)

// inspectBody is the JSON of img with the fields of Config that its own type omits.
func inspectBody(ctx context.Context, img imagetypes.InspectResponse) (any, error) {
	img = inspected(ctx, img)
	if img.Config == nil {
		return img, nil
	}
	b, err := json.Marshal(img.Config)
	if err != nil {
		return nil, err
	}
	config := map[string]json.RawMessage{}
	if err := json.Unmarshal(b, &config); err != nil {
		return nil, err
	}
	addMissing(config, alwaysThere)
	if !rest.ImageConfigOnly.In(ctx) {
		addMissing(config, onceThere)
	}
	return struct {
		imagetypes.InspectResponse
		Config map[string]json.RawMessage // hides the embedded one
	}{img, config}, nil
}

func addMissing(to, from map[string]json.RawMessage) {
	for k, v := range from {
		if _, ok := to[k]; !ok {
			to[k] = v
		}
	}
}
