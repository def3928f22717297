package wire

import (
	"github.com/containerd/containerd/api/types"
	transfertypes "github.com/containerd/containerd/api/types/transfer"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"gantry/libctr/core/transfer"
)

// ImageStore and FromImageStore convert an end of a transfer.
func ImageStore(s *transfer.ImageStore) *transfertypes.ImageStore {
	m := &transfertypes.ImageStore{
		Name: s.Name, Labels: s.Labels, Platforms: platforms(s.Platforms), AllMetadata: s.AllMetadata, ManifestLimit: uint32(max(s.ManifestLimit, 0)),
	}
	for _, r := range s.ExtraReferences {
		m.ExtraReferences = append(m.ExtraReferences, &transfertypes.ImageReference{
			Name: r.Name, IsPrefix: r.IsPrefix, AllowOverwrite: r.AllowOverwrite, AddDigest: r.AddDigest, SkipNamedDigest: r.SkipNamedDigest,
		})
	}
	for _, u := range s.Unpacks {
		m.Unpacks = append(m.Unpacks, &transfertypes.UnpackConfiguration{Platform: platform(u.Platform), Snapshotter: u.Snapshotter})
	}
	return m
}

func FromImageStore(m *transfertypes.ImageStore) *transfer.ImageStore {
	s := &transfer.ImageStore{
		Name: m.GetName(), Labels: m.GetLabels(), Platforms: fromPlatforms(m.GetPlatforms()), AllMetadata: m.GetAllMetadata(), ManifestLimit: int(m.GetManifestLimit()),
	}
	for _, r := range m.GetExtraReferences() {
		s.ExtraReferences = append(s.ExtraReferences, transfer.Reference{
			Name: r.GetName(), IsPrefix: r.GetIsPrefix(), AllowOverwrite: r.GetAllowOverwrite(), AddDigest: r.GetAddDigest(), SkipNamedDigest: r.GetSkipNamedDigest(),
		})
	}
	for _, u := range m.GetUnpacks() {
		s.Unpacks = append(s.Unpacks, transfer.Unpack{Platform: fromPlatform(u.GetPlatform()), Snapshotter: u.GetSnapshotter()})
	}
	return s
}

// Export and FromExport convert all but the stream, which is named by its id.
func Export(e *transfer.Export, id string) *transfertypes.ImageExportStream {
	return &transfertypes.ImageExportStream{
		Stream: id, MediaType: e.MediaType, Platforms: platforms(e.Platforms), AllPlatforms: e.AllPlatforms,
		SkipCompatibilityManifest: e.SkipDockerManifest, SkipNonDistributable: e.SkipNonDistributable,
	}
}

func FromExport(m *transfertypes.ImageExportStream) *transfer.Export {
	return &transfer.Export{
		MediaType: m.GetMediaType(), Platforms: fromPlatforms(m.GetPlatforms()), AllPlatforms: m.GetAllPlatforms(),
		SkipDockerManifest: m.GetSkipCompatibilityManifest(), SkipNonDistributable: m.GetSkipNonDistributable(),
	}
}

// Registry and FromRegistry convert all but what goes over streams: credentials and the
// log of HTTP.
func Registry(r *transfer.Registry) *transfertypes.OCIRegistry {
	return &transfertypes.OCIRegistry{Reference: r.Reference, Resolver: &transfertypes.RegistryResolver{
		Headers: r.Headers, HostDir: r.HostDir, DefaultScheme: r.DefaultScheme, HttpDebug: transfertypes.HTTPDebug(r.Debug),
	}}
}

func FromRegistry(m *transfertypes.OCIRegistry) *transfer.Registry {
	r := m.GetResolver()
	return &transfer.Registry{
		Reference: m.GetReference(), Headers: r.GetHeaders(), HostDir: r.GetHostDir(), DefaultScheme: r.GetDefaultScheme(),
		Debug: transfer.Debug(max(min(r.GetHttpDebug(), transfertypes.HTTPDebug_BOTH), 0)),
	}
}

// Secret and FromSecret convert an answer to a registry's question.
func Secret(s transfer.Secret) *transfertypes.AuthResponse {
	switch {
	case s.Header != "":
		return &transfertypes.AuthResponse{AuthType: transfertypes.AuthType_HEADER, Secret: s.Header}
	case s.Username != "":
		return &transfertypes.AuthResponse{AuthType: transfertypes.AuthType_CREDENTIALS, Username: s.Username, Secret: s.Secret}
	}
	return &transfertypes.AuthResponse{AuthType: transfertypes.AuthType_REFRESH, Secret: s.Secret}
}

func FromSecret(m *transfertypes.AuthResponse) transfer.Secret {
	switch m.GetAuthType() {
	case transfertypes.AuthType_CREDENTIALS:
		return transfer.Secret{Username: m.GetUsername(), Secret: m.GetSecret()}
	case transfertypes.AuthType_REFRESH:
		return transfer.Secret{Secret: m.GetSecret()}
	case transfertypes.AuthType_HEADER:
		return transfer.Secret{Header: m.GetSecret()}
	}
	return transfer.Secret{}
}

// Progress and FromProgress convert one step of a transfer.
func Progress(p transfer.Progress) *transfertypes.Progress {
	m := &transfertypes.Progress{Event: p.Event, Name: p.Name, Parents: p.Parents, Progress: p.Progress, Total: p.Total}
	if p.Desc != nil {
		m.Desc = Descriptor(*p.Desc)
	}
	return m
}

func FromProgress(m *transfertypes.Progress) transfer.Progress {
	p := transfer.Progress{Event: m.GetEvent(), Name: m.GetName(), Parents: m.GetParents(), Progress: m.GetProgress(), Total: m.GetTotal()}
	if m.GetDesc() != nil {
		d := FromDescriptor(m.GetDesc())
		p.Desc = &d
	}
	return p
}

func platforms(list []ocispec.Platform) []*types.Platform {
	var out []*types.Platform
	for _, p := range list {
		out = append(out, platform(p))
	}
	return out
}

func platform(p ocispec.Platform) *types.Platform {
	return &types.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant, OSVersion: p.OSVersion, OSFeatures: p.OSFeatures}
}

func fromPlatforms(list []*types.Platform) []ocispec.Platform {
	var out []ocispec.Platform
	for _, p := range list {
		out = append(out, fromPlatform(p))
	}
	return out
}

func fromPlatform(p *types.Platform) ocispec.Platform {
	return ocispec.Platform{OS: p.GetOS(), Architecture: p.GetArchitecture(), Variant: p.GetVariant(), OSVersion: p.GetOsVersion(), OSFeatures: p.GetOsFeatures()}
}
