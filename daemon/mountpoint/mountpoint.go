// Package mountpoint reads what users say about mounts: the one-line form of
// HostConfig.Binds ("src:dst[:opts]"), the structured form of HostConfig.Mounts and
// the tmpfs options. It is pure but for the Exists function handed to Check; its texts
// are dockerd 28.5's.
package mountpoint

import (
	"fmt"
	"path"

	mounttypes "github.com/docker/docker/api/types/mount"
)

// Point is one mount of a container as its record keeps it.
type Point struct {
	Type        mounttypes.Type
	Name        string `json:",omitempty"` // of the volume
	Driver      string `json:",omitempty"` // of the volume
	Source      string `json:",omitempty"` // host path; a volume's directory
	Destination string // absolute, clean
	Mode        string `json:",omitempty"` // the options as given
	RW          bool
	Propagation mounttypes.Propagation `json:",omitempty"`
	// Anonymous volumes go with `rm -v`.
	Anonymous bool `json:",omitempty"`
	// CopyData asks to fill an empty volume from the image.
	CopyData bool `json:",omitempty"`
	// CreateSource makes a missing bind source as a directory at start.
	CreateSource bool `json:",omitempty"`
	// Chain names the layers of an image, Snapshot the view of them that is this
	// container's.
	Chain, Snapshot string `json:",omitempty"`
	Spec            mounttypes.Mount
}

// Default propagation of binds.
const defaultPropagation = mounttypes.PropagationRPrivate

// ParseMount turns a checked structured mount into a Point.
func ParseMount(m mounttypes.Mount) Point {
	p := Point{Type: m.Type, Destination: path.Clean(m.Target), RW: !m.ReadOnly, Spec: m}
	switch m.Type {
	case mounttypes.TypeVolume:
		p.volume(m)
	case mounttypes.TypeBind:
		p.Source = path.Clean(m.Source)
		p.Propagation = defaultPropagation
		if m.BindOptions != nil && m.BindOptions.Propagation != "" {
			p.Propagation = m.BindOptions.Propagation
		}
		p.CreateSource = m.BindOptions != nil && m.BindOptions.CreateMountpoint
	case mounttypes.TypeImage:
		p.Name = m.Source
		p.Propagation = defaultPropagation
		p.RW = false
	}
	return p
}

func (p *Point) volume(m mounttypes.Mount) {
	p.Name = m.Source
	p.Anonymous = m.Source == ""
	p.CopyData = true
	if o := m.VolumeOptions; o != nil {
		p.CopyData = !o.NoCopy
		if o.DriverConfig != nil {
			p.Driver = o.DriverConfig.Name
		}
	}
}

// Anonymous is the point of a path named in Config.Volumes.
func Anonymous(destination, driver string) (Point, error) {
	m := mounttypes.Mount{Type: mounttypes.TypeVolume, Target: destination}
	if err := Check(&m, nil); err != nil {
		return Point{}, fmt.Errorf("%w: %w", errSpec(destination), err)
	}
	return Point{
		Type: mounttypes.TypeVolume, Driver: driver, Destination: path.Clean(destination),
		RW: true, CopyData: true, Anonymous: true,
	}, nil
}

// ParseBind reads one entry of HostConfig.Binds; driver is HostConfig.VolumeDriver.
// The source of a bind need not exist: it is made at start.
func ParseBind(raw, driver string) (Point, error) {
	spec, mode, err := splitBind(raw)
	if err != nil {
		return Point{}, err
	}
	m := bindMount(spec, mode, driver)
	if err := Check(&m, nil); err != nil {
		return Point{}, fmt.Errorf("%w: %w", errSpec(raw), err)
	}
	p := ParseMount(m)
	p.Mode = mode
	p.CreateSource = p.Type == mounttypes.TypeBind
	return p, nil
}

func bindMount(spec [2]string, mode, driver string) mounttypes.Mount {
	m := mounttypes.Mount{Type: mounttypes.TypeVolume, Source: spec[0], Target: spec[1], ReadOnly: !writable(mode)}
	if path.IsAbs(m.Source) {
		m.Type = mounttypes.TypeBind
	}
	if driver != "" && m.Type == mounttypes.TypeVolume {
		m.VolumeOptions = &mounttypes.VolumeOptions{DriverConfig: &mounttypes.Driver{Name: driver}}
	}
	if hasOption(mode, "nocopy") {
		if m.VolumeOptions == nil {
			m.VolumeOptions = &mounttypes.VolumeOptions{}
		}
		m.VolumeOptions.NoCopy = true
	}
	if p := propagation(mode); p != "" {
		m.BindOptions = &mounttypes.BindOptions{Propagation: p}
	}
	return m
}

// ParseVolumesFrom reads "container[:mode]"; mode is "rw" when left out.
func ParseVolumesFrom(spec string) (container string, rw bool, err error) {
	id, mode := cutMode(spec)
	switch {
	case spec == "":
		return "", false, fmt.Errorf("volumes-from specification cannot be an empty string")
	case mode != "" && (!validMode(mode) || propagation(mode) != "" || hasOption(mode, "nocopy")):
		return "", false, errMode(mode)
	}
	return id, writable(mode), nil
}
